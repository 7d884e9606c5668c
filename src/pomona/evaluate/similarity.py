"""Sentence encoders against people: correlation of cosine similarity with human ratings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pomona.evaluate.outputs import answer, batches, hidden
from pomona.evaluate.tally import Meter, Tally
from pomona.vocabulary import InputError


@runtime_checkable
class RatedPairs(Protocol):
    """Batches of tokenised sentences; `pairs` (n, 2) int64 indexes them in order, `scores` (n,) is what people said."""

    pairs: Tensor
    scores: Tensor

    def __iter__(self) -> Iterator[Any]:
        """Dicts with input_ids and attention_mask."""
        ...


def correlation(model: nn.Module, data: Iterable[Any], kind: Literal["spearman", "pearson"], meter: Meter) -> Tally:
    """Pearson's correlation, or Spearman's (of ranks, ties averaged), between cosine similarities and people's scores."""
    if not isinstance(data, RatedPairs) or len(data.pairs) < 2:
        raise InputError(
            f"'{kind}' needs rated sentence pairs: data with pairs and scores, such as the built-in lee or wordsim353."
        )
    vectors = sentence_vectors(model, data, meter)
    if int(data.pairs.max()) >= len(vectors):
        raise InputError(f"A pair names sentence {int(data.pairs.max())}; the data has {len(vectors)}.")
    ours = (vectors[data.pairs[:, 0]] * vectors[data.pairs[:, 1]]).sum(1)
    theirs = data.scores.double()
    return Tally(pearson(ranks(ours), ranks(theirs)) if kind == "spearman" else pearson(ours, theirs), len(data.pairs))


def sentence_vectors(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tensor:
    """float64 (sentences, width): the mean of the token vectors under the attention mask, scaled to length 1."""
    rows = []
    for batch in batches(data):
        tokens = hidden(answer(model, batch)).double()
        mask = batch.kwargs.get("attention_mask")
        if tokens.dim() != 3:
            raise InputError(f"A sentence encoder gives vectors (batch, length, width); this model gave {tuple(tokens.shape)}.")
        weight = mask[..., None].double() if isinstance(mask, Tensor) else torch.ones_like(tokens[..., :1])
        rows.append(F.normalize((tokens * weight).sum(1) / weight.sum(1).clamp(min=1), dim=1).cpu())
        meter(1)
    return torch.cat(rows)


def pearson(a: Tensor, b: Tensor) -> float:
    """Linear correlation of two float64 vectors; 0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0


def ranks(x: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing their mean rank, float64.

    >>> ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    group: Tensor
    size: Tensor
    _, group, size = torch.unique(x, return_inverse=True, return_counts=True)
    last = size.cumsum(0).double()
    mean: Tensor = last - (size.double() - 1) / 2
    return mean[group]

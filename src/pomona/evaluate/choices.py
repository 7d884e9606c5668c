"""Choosing the true ending: accuracy of a language model by how likely it finds each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pomona.evaluate.outputs import answer, batches, predictions
from pomona.evaluate.tally import Meter, Tally
from pomona.vocabulary import Batch, InputError, generator

CHOICES = 4  # endings of a cloze question, the true one among them


@runtime_checkable
class Choices(Protocol):
    """Batches of rows, one an ending. `endings` counts the rows of each question, `right` numbers the true one."""

    @property
    def endings(self) -> Tensor:
        """int64 (questions,)."""
        ...

    @property
    def right(self) -> Tensor:
        """int64 (questions,)."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Dicts with input_ids, attention_mask and labels: the ids of the endings, -100 elsewhere."""
        ...


def choice(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Share of the questions whose true ending has the highest mean log-likelihood a token, given the context.

    The mean, so that long endings are not punished ("acc_norm" with tokens for bytes). Ties go to the first.
    """
    if not isinstance(data, Choices) or not len(data.right):
        raise InputError("'choice' needs questions: a .jsonl with context, choices and answer.")
    rows = []
    for batch in batches(data):
        if not isinstance(batch.target, Tensor):
            raise InputError("'choice' needs labels that say which tokens are the ending.")
        rows.append(likelihoods(model, batch, batch.target))
        meter(1)
    starts = data.endings.cumsum(0) - data.endings
    scores = torch.cat(rows)
    picked = [int(scores[start : start + n].argmax()) for start, n in zip(starts.tolist(), data.endings.tolist(), strict=True)]
    right = torch.tensor(picked) == data.right
    return Tally(float(right.double().mean()), len(right))


def cloze(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Share of the windows of text whose own ending is likelier, a token, than those of three other windows.

    The ending is the last eighth of a window, at most 32 tokens. Chance is 25 %. It needs no labels, and it shows what
    perplexity hides: whether a model still uses the far context. Other endings are drawn alike in every run.
    """
    given = [batch for batch in batches(data)]
    windows = [_ids(batch) for batch in given]
    tails = [ids[:, -_ending(ids) :] for ids in windows]
    pool = torch.cat([t for t in tails if t.shape[1] == tails[0].shape[1]])
    if len(pool) < CHOICES or len({t.shape[1] for t in tails}) > 1:
        raise InputError(f"'cloze' needs at least {CHOICES} windows of one length.")
    random, place, hits = generator(0), 0, 0
    for ids, tail in zip(windows, tails, strict=True):
        for row, own in zip(ids, tail, strict=True):
            others = _others(pool, place, random)
            asked = row.repeat(CHOICES, 1)
            asked[1:, -len(own) :] = pool[others].to(row.device)
            told = asked.clone()
            told[:, : -len(own)] = -100
            hits += int(likelihoods(model, Batch(kwargs={"input_ids": asked}), told).argmax() == 0)
            place += 1
        meter(1, cloze=hits / place)
    return Tally(hits / place, place)


def likelihoods(model: nn.Module, batch: Batch, told: Tensor) -> Tensor:
    """float64 (rows,) on the CPU: mean log-probability, in nats, of the tokens in `told` (rows, length), -100 being none."""
    logits = predictions(answer(model, batch))
    if logits.dim() != 3 or logits.shape[:2] != told.shape:
        raise InputError(
            f"Choosing endings needs a language model with logits (batch, length, vocabulary); got {tuple(logits.shape)}."
        )
    target = told[:, 1:].to(logits.device)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), target.flatten(), reduction="none", ignore_index=-100)
    counted = (target != -100).sum(1)
    return (-loss.view(target.shape).double().sum(1) / counted.clamp(min=1)).cpu()


def _others(pool: Tensor, own: int, random: torch.Generator) -> Tensor:
    """Three places in the pool that do not say the same as one's own."""
    different = (pool != pool[own]).any(1).nonzero()[:, 0]
    if len(different) < CHOICES - 1:
        raise InputError("The windows end alike, so there is nothing to choose from.")
    return different[torch.randperm(len(different), generator=random)[: CHOICES - 1]]


def _ids(batch: Batch) -> Tensor:
    ids = batch.kwargs.get("input_ids", batch.args[0] if batch.args else None)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() != 2 or ids.shape[1] < 8:
        raise InputError(
            "'cloze' needs windows of at least 8 token ids: (batch, length) whole numbers, or a dict with input_ids."
        )
    return ids


def _ending(ids: Tensor) -> int:
    return min(32, ids.shape[1] // 8)

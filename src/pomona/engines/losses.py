"""What a cut loses of what a weight puts out, on the data that was gathered on."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.statistics.input_gram import InputGram
from pomona.vocabulary import Decision, View
from pomona.vocabulary.layout import to_product

_ROWS = 128  # outputs that are looked at: all of them would cost as much as solving
_AT_ONCE = 1024


def lost(view: View, decision: Decision) -> float | None:
    """tr(D H D^T) / tr(W H W^T): the share of the outputs' energy that a decision on a weight loses, bias left out.

    D is the change of the weight W, H the gram matrix of its inputs; None where no part asked for one. Estimated on at most 128
    outputs, evenly spaced, in float32.
    """
    given = view.site.weight
    gram = next((value for need, value in view.stats.items() if isinstance(need, InputGram)), None)
    if given is None or gram is None or view.site.kind != "element":
        return None
    before = view.tensors[given.tensor].detach()
    after = decision.tensors.get(given.tensor, before)
    mask = view.structure.expand(view.site, decision.keep)[given.tensor].expand(given.shape).to(before.device)
    whole, left = (to_product(given, value)[:, :: max(1, -(-_rows(value, gram) // _ROWS))] for value in (before, after * mask))
    energy = _form(whole.float(), gram)
    return _form((whole - left).float(), gram) / energy if energy else 0.0


def _rows(value: Tensor, gram: Tensor) -> int:
    """Outputs of each group."""
    return value.numel() // (gram.shape[0] * gram.shape[1])


def _form(change: Tensor, gram: Tensor) -> float:
    """tr(D H D^T), some columns at a time: H is never copied whole into another type."""
    total = 0.0
    for start in range(0, gram.shape[1], _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        reached = change @ gram[..., here].to(change.dtype)
        total += float((reached * change[..., here]).sum(dtype=torch.float64))
    return max(total, 0.0)

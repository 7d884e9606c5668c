"""What a cut loses of what a weight puts out, on the data that was gathered on."""

from __future__ import annotations

from torch import Tensor

from pomona.quadratic.problem import form
from pomona.statistics.input_gram import InputGram
from pomona.vocabulary import Decision, View
from pomona.vocabulary.layout import to_product

_ROWS = 128  # outputs that are looked at: all of them would cost as much as solving


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
    energy = form(whole.float(), gram)
    return form((whole - left).float(), gram) / energy if energy else 0.0


def _rows(value: Tensor, gram: Tensor) -> int:
    """Outputs of each group."""
    return value.numel() // (gram.shape[0] * gram.shape[1])

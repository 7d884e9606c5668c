"""The norm of every input feature that a weight multiplies."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from pomona.probes.forward import Forward
from pomona.statistics.input_gram import InputGram
from pomona.statistics.sums import added, only_weight, squarable, watched
from pomona.vocabulary import Convolution, InputError, Probe, Seen, Site, State, Watch, Weight

_FEW = 64


@dataclass(frozen=True)
class InputNorm:
    """||x_j||_2 over all examples and positions, float64, shaped to broadcast against the weight as it is stored.

    Linear (out, in): (1, in), whichever way round it is stored; of stacked matrices each has its own, (stack, 1, in).
    Convolution: x_j is the unfolded input column that a kernel element meets, (1, in, *kernel), or (out, in / groups, *kernel)
    with groups. Transposed convolution: (in, 1, ...), what padding crops away included.
    """

    probe: Probe = field(default_factory=Forward)
    covered: ClassVar[str] = "inputs"

    def watch(self, site: Site) -> Watch:
        """The weight's inputs; raises InputError for axis sites and for recurrent weights, whose inputs no module sees."""
        name = only_weight(site, "The norm of a weight's inputs")
        if site.weight is None or site.weight.kind not in ("linear", "conv"):
            raise InputError(f"{name} is neither a linear nor a convolution weight, so its inputs are unknown; skip it.")
        return watched(site.weight)

    def alike(self, site: Site, seen: Seen) -> Hashable:
        """Sites that read the same memory in the same way."""
        return InputGram(self.probe).alike(site, seen)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add the squares of one batch."""
        weight = _weight(site)
        if weight.stack is not None:
            rows, experts = seen.experts[weight.tensor]
            squares = rows.new_zeros(weight.stack, rows.shape[1], dtype=torch.float64)
            return added(state, {"squares": squares.index_add_(0, experts, rows.double().square())})
        x = seen.inputs[weight.tensor]
        if weight.conv is None:
            squares = _squares(x.reshape(-1, x.shape[-1]))
        elif weight.conv.transposed:
            squares = x.double().square().transpose(0, 1).flatten(1).sum(1)
        else:
            squares = _columns(x.double().square(), weight.conv, weight.shape[2:])
        return added(state, {"squares": squares})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The norms, broadcast against the weight."""
        weight, norms = _weight(site), state["squares"].sqrt()
        if weight.conv is None:
            shape = [weight.stack or 1, *[1] * (len(weight.shape) - 1)]
            shape[weight.in_dim if weight.in_dim is not None else -1] = -1
            return norms.reshape(shape)
        if weight.conv.transposed:
            return norms.reshape(-1, *[1] * (len(weight.shape) - 1))
        if weight.conv.groups == 1:
            return norms.unsqueeze(0)
        grouped = norms.reshape(weight.conv.groups, -1, *norms.shape[1:])
        return grouped.repeat_interleave(weight.shape[0] // weight.conv.groups, dim=0)

    def unreached(self, value: Tensor, site: Site) -> Tensor:
        """Which inputs (features or channels) were never anything but zero: bool (in,)."""
        conv = _weight(site).conv
        if conv is None or conv.transposed:
            return value.flatten() == 0
        firsts = value[:: max(1, len(value) // conv.groups)]  # filters of a group read the same channels
        return (firsts.flatten(2) == 0).all(2).flatten()


def _weight(site: Site) -> Weight:
    assert site.weight is not None  # watch() saw to it
    return site.weight


def _squares(rows: Tensor) -> Tensor:
    """(rows, columns) -> (columns,): sums of squares, of which no more than a few are added in float32, the rest in float64.

    To square and add all in float64 takes as long as the product of a narrow layer.
    """
    rows = squarable(rows)
    whole = len(rows) // _FEW * _FEW
    few = rows[:whole].square().view(-1, _FEW, rows.shape[1]).sum(1)
    return few.sum(0, dtype=torch.float64) + rows[whole:].square().sum(0, dtype=torch.float64)


def _columns(squares: Tensor, conv: Convolution, kernel: tuple[int, ...]) -> Tensor:
    """(examples, in, *space) -> (in, *kernel): sums over where each kernel element lands; no unfolded copy is made."""
    padded = pad(squares, conv.rim)
    spans = [d * (k - 1) + 1 for d, k in zip(conv.dilation, kernel, strict=True)]
    steps = [(n - span) // s + 1 for n, span, s in zip(padded.shape[2:], spans, conv.stride, strict=True)]
    sums = []
    for at in product(*map(range, kernel)):
        window = padded
        for axis, (k, d, s, n) in enumerate(zip(at, conv.dilation, conv.stride, steps, strict=True), 2):
            window = window.narrow(axis, k * d, s * (n - 1) + 1)[(slice(None),) * axis + (slice(None, None, s),)]
        sums.append(window.transpose(0, 1).flatten(1).sum(1))
    return torch.stack(sums, dim=1).reshape(squares.shape[1], *kernel)

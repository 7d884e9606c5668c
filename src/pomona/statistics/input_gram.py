"""What the inputs of a weight have to do with each other: all that a change of the weight can do to its outputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.columns import patches, straight
from pomona.statistics.sums import added, only_weight, squarable, watched
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch, Weight
from pomona.vocabulary.layout import product_shape

_BLOCK = 256  # columns of the gram that are added at once: the half below the diagonal is never computed
_UNFOLDED = 1 << 24  # numbers that an unfolded piece of a convolution's input may hold


@dataclass(frozen=True)
class InputGram:
    """H = sum of x x^T over all tokens, examples and positions: float64 of shape (groups, columns, columns).

    x are the columns that the weight multiplies in `layout.to_product`: features of a linear weight, whichever way it is
    stored, the unfolded input of a convolution, group by group; each matrix of a stack has its own. A change D of the weight
    then changes the outputs by tr(D H D^T) in squares. Weights that read the very same tensor share one accumulator.

    Each batch is multiplied in float32 (in float64 where the model is, or where float32 could not hold the squares) and added in
    float64. On inputs with outlier features correlations then differ by 3e-7 from those multiplied in float64 (8192 tokens of
    width 1536), thousands of times less than any damping adds; multiplying so, and only above the diagonal, is 2.5 times as
    fast. Accumulated in place: memory is columns squared, for each tensor that is read.
    """

    probe: Probe = field(default_factory=Forward)
    covered: ClassVar[str] = "inputs"

    def watch(self, site: Site) -> Watch:
        """The weight's inputs; raises InputError for axis sites and for recurrent weights, whose inputs no module sees."""
        name = only_weight(site, "What a weight's inputs have to do with each other")
        if site.weight is None or site.weight.kind not in ("linear", "conv"):
            raise InputError(f"{name} is neither a linear nor a convolution weight, so its inputs are unknown; skip it.")
        return watched(site.weight)

    def alike(self, site: Site, seen: Seen) -> Hashable:
        """Sites that read the same memory in the same way."""
        weight = _weight(site)
        if weight.stack is not None:
            rows, experts = seen.experts[weight.tensor]
            return rows.data_ptr(), rows.shape, rows.stride(), rows.dtype, experts.data_ptr()
        x = seen.inputs[weight.tensor]
        how = (weight.conv, weight.shape[2:]) if weight.conv else None
        return x.data_ptr(), x.shape, x.stride(), x.dtype, how

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch to the accumulator, which is changed in place."""
        weight = _weight(site)
        groups, _, columns = product_shape(weight)
        if state is None:
            state = {"sum": torch.zeros(groups, columns, columns, dtype=torch.float64, device=device(weight, seen))}
        for here, read in pieces(weight, seen):
            piece = squarable(read)
            for i in range(0, columns, _BLOCK):
                state["sum"][here, i : i + _BLOCK, i:] += piece[..., i : i + _BLOCK].mT @ piece[..., i:]
        return state

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The accumulator itself, with the half below the diagonal filled in."""
        gram = state["sum"]
        for i in range(0, gram.shape[1], _BLOCK):
            gram[:, i + _BLOCK :, i : i + _BLOCK] = gram[:, i : i + _BLOCK, i + _BLOCK :].mT
        return gram

    def unreached(self, value: Tensor, site: Site) -> Tensor:
        """Which inputs (features or channels) were never anything but zero: bool (in,)."""
        weight = _weight(site)
        kernel = torch.Size(weight.shape[2:]).numel() if weight.conv else 1
        squares = value.diagonal(dim1=1, dim2=2).reshape(len(value), kernel, -1)  # columns: inputs at each place of the kernel
        return (squares == 0).all(1).flatten()


def _weight(site: Site) -> Weight:
    assert site.weight is not None  # watch() saw to it
    return site.weight


def device(weight: Weight, seen: Seen) -> torch.device:
    """Where that is which the weight reads."""
    return (seen.inputs[weight.tensor] if weight.stack is None else seen.experts[weight.tensor][0]).device


def pieces(weight: Weight, seen: Seen) -> Iterator[tuple[slice, Tensor]]:
    """What the weight multiplies, in pieces: (which groups of `layout.to_product`, what these read (groups, tokens, columns))."""
    if weight.stack is None:
        yield from ((slice(None), piece) for piece in _unfolded(weight, seen.inputs[weight.tensor]))
        return
    rows, experts = seen.experts[weight.tensor]
    own = torch.split(rows[experts.argsort(stable=True)], experts.bincount(minlength=weight.stack).tolist())
    yield from ((slice(number, number + 1), each[None]) for number, each in enumerate(own) if len(each))


def _unfolded(weight: Weight, x: Tensor) -> Iterator[Tensor]:
    """(groups, tokens, columns), in pieces."""
    groups, _, columns = product_shape(weight)
    if weight.conv is None:
        yield x.reshape(1, -1, columns)
        return
    conv, kernel = weight.conv, weight.shape[2:]
    if conv.transposed:
        x, conv = straight(x, conv, kernel)
    each = x[0].numel() * torch.Size(kernel).numel()
    for piece in torch.split(x, max(1, _UNFOLDED // each)):
        taken = patches(piece, conv, kernel)  # (examples, channels, positions, kernel)
        if weight.conv.transposed:
            taken = taken.flip(3)  # in the order in which the weight is stored
        taken = taken.reshape(len(piece), groups, -1, *taken.shape[2:])
        yield taken.permute(1, 0, 3, 4, 2).reshape(groups, -1, columns)

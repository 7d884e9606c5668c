"""The layout that is fastest for one layer on this machine; torch's dense product is one of those asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pomona.native.living import sparsity_of
from pomona.runtime.formats.conv_format import Geometry
from pomona.runtime.sparse.candidates import Candidate, conv_candidates, linear_candidates
from pomona.runtime.sparse.convolution import SparseConv2d
from pomona.runtime.sparse.linear import SparseLinear
from pomona.runtime.sparse.table import DENSE, Table
from pomona.runtime.sparse.timed import Turn, turns_timed

GAIN = 0.97  # of the dense time: a packed layer cannot be trained, so it must be worth the name


@dataclass(frozen=True)
class Choice:
    """Milliseconds of one call by torch and by the fastest layout that was asked; `candidate` is None where dense stays."""

    candidate: Candidate | None
    dense_ms: float
    best_ms: float
    tried: Mapping[str, float]


def packed_layer(layer: nn.Module, candidate: Candidate) -> nn.Module:
    """A linear or 2-d convolution layer with its weight in this layout. Raises InputError where the layout does not take it."""
    if isinstance(layer, nn.Linear):
        return SparseLinear(candidate.pack(layer.weight), layer.bias).eval()
    assert isinstance(layer, nn.Conv2d)
    return SparseConv2d(candidate.pack_conv(layer.weight, geometry_of(layer)), layer.bias).eval()


def geometry_of(layer: nn.Conv2d) -> Geometry:
    """Strides, padding in numbers, dilation and groups of a convolution.

    Raises InputError where these numbers make no convolution.
    """
    padding = in_numbers(layer.padding, layer.kernel_size, layer.dilation)
    return Geometry.of(_two(layer.stride), padding, _two(layer.dilation), layer.groups)


def in_numbers(padding: str | tuple[int, ...], kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, int]:
    """Padding by name as zeros on each side; "same" must ask for as many on both."""
    if not isinstance(padding, str):
        return _two(padding)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return (0, 0) if padding == "valid" else (reach[0] // 2, reach[1] // 2)


def candidates_of(layer: nn.Module, rows: int, values: str) -> list[Candidate]:
    """What to try for this layer; see `linear_candidates` and `conv_candidates`."""
    if isinstance(layer, nn.Linear):
        return linear_candidates(layer.weight, rows, values)
    assert isinstance(layer, nn.Conv2d)
    return conv_candidates(layer.weight, layer.groups)


def choose(layer: nn.Module, x: Tensor, cold: bool, values: str, table: Table) -> Choice:
    """The fastest way to compute this layer for inputs like x, from the table, which is filled where it does not know.

    Only inside `Table.measuring`. The same table gives the same choice.
    """
    tried = candidates_of(layer, x.shape[:-1].numel(), values)
    if not tried:
        return Choice(None, 0.0, 0.0, {})
    names = {str(candidate): candidate for candidate in tried}
    seconds = table.seconds(_case(layer, x, cold), list(names), lambda: _measured(layer, x, cold, tried))
    times = {name: 1e3 * seconds[name] for name in names}
    best = min(names, key=lambda name: (times[name], name))
    dense = 1e3 * seconds[DENSE]
    return Choice(names[best] if times[best] <= GAIN * dense else None, dense, times[best], times)


def _measured(layer: nn.Module, x: Tensor, cold: bool, tried: Sequence[Candidate]) -> dict[str, float]:
    draw = torch.Generator().manual_seed(0)
    some = torch.randn(x.shape, generator=draw).to(x.dtype)
    small, tiny = _tiny(layer)

    def turn(made: nn.Module, trial: nn.Module) -> Turn:
        return Turn(lambda: made(some), lambda: trial(tiny))

    turns = {DENSE: turn(layer, small)}
    turns |= {str(c): turn(packed_layer(layer, c), packed_layer(small, c)) for c in tried}
    return turns_timed(turns, cold)


def _tiny(layer: nn.Module) -> tuple[nn.Module, Tensor]:
    """A layer of the same kind that is too small to cool anything, and an input for it."""
    if isinstance(layer, nn.Linear):
        small: nn.Module = nn.Linear(16, 32, bias=layer.bias is not None)
        tiny = torch.ones(1, 16)
    else:
        assert isinstance(layer, nn.Conv2d)
        small, tiny = nn.Conv2d(2, 16, 3, bias=layer.bias is not None), torch.ones(1, 2, 4, 4)
    for parameter in small.parameters():
        parameter.fill_(0)
    return small.eval(), tiny


def _case(layer: nn.Module, x: Tensor, cold: bool) -> str:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    shape = "x".join(map(str, weight.shape))
    over = ",".join(map(str, x.shape)) if x.dim() == 4 else f"{x.shape[:-1].numel()} rows"
    how = f" {geometry_of(layer)}" if isinstance(layer, nn.Conv2d) else ""
    kind = str(weight.dtype).removeprefix("torch.")
    return f"{shape}{how} on {over} {kind} zeros {_rounded(sparsity_of(weight)):.2f} {'cold' if cold else 'warm'}"


def _rounded(sparsity: float) -> float:
    """To 5 %, from 90 % up to 1 %: layers that are nearly alike are measured once."""
    step = 0.01 if sparsity > 0.9 else 0.05
    return round(sparsity / step) * step


def _two(pair: tuple[int, ...]) -> tuple[int, int]:
    return pair[0], pair[1]

"""The way in which one linear layer is fastest on a GPU; cuBLAS on the dense weight is one of those asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pomona.runtime.gpu.device import TARGETS, Gpu
from pomona.runtime.gpu.linear import SpansLinear
from pomona.runtime.gpu.ops import FEW
from pomona.runtime.gpu.semi_structured import SemiStructuredLinear, unfit
from pomona.runtime.gpu.spans import KINDS, SPAN, Spans

DENSE = "dense cuBLAS"
GAIN = 0.97  # of the dense time, as on the CPU: a packed layer cannot be trained, so it must be worth the name
_ZEROS = 0.07  # share from which bits and values are fewer bytes than the weight
_BUSY = 4  # programs for each processor, from which on more of them hide no more waiting


@dataclass(frozen=True, order=True)
class Way:
    """A layout, and for "spans" how the kernel divides its work."""

    layout: str
    tall: int = 0
    parts: int = 0

    def __str__(self) -> str:
        return self.layout if not self.tall else f"{self.layout} tall={self.tall} parts={self.parts}"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """Milliseconds of one call of the dense layer and of the fastest other; `way` is None where dense stays, and `reason` why.

    Times are None where nothing could be tried.
    """

    way: Way | None
    reason: str | None = None
    dense_ms: float | None = None
    best_ms: float | None = None
    tried: Mapping[str, float] = field(default_factory=dict)


def choose(layer: nn.Linear, rows: int, target: str, gpu: Gpu) -> Choice:
    """The fastest way to compute this layer, whose weight is on the GPU, for so many rows of x."""
    found, reason = ways(layer.weight, rows, target, gpu)
    if not found:
        return Choice(None, reason)
    draw = torch.Generator(gpu.device).manual_seed(0)
    x = torch.randn(rows, layer.in_features, generator=draw, device=gpu.device).to(layer.weight.dtype)
    made = {str(way): module for way, module in packed(layer, found, gpu).items()}
    seconds = gpu.measure({name: _call(module, x) for name, module in {DENSE: layer, **made}.items()})
    times = {name: 1e3 * found for name, found in seconds.items()}
    best = min(found, key=lambda way: (times[str(way)], way))
    dense_ms, best_ms = times.pop(DENSE), times[str(best)]
    pays = best_ms <= GAIN * dense_ms
    return Choice(best if pays else None, None if pays else "dense is as fast", dense_ms, best_ms, times)


def ways(weight: Tensor, rows: int, target: str, gpu: Gpu) -> tuple[list[Way], str | None]:
    """What a weight's type, shape and zeros allow for so many rows of x; where that is nothing, why."""
    if not bool(weight.isfinite().all()):
        return [], "its weight holds NaN or infinities"
    found, reasons = [], []
    for layout in TARGETS[target]:
        why = unfit(weight, gpu.library) if layout == "2:4" else _unfit_for_spans(weight, rows)
        if why is not None:
            reasons.append(why)
        else:
            found += [Way("2:4")] if layout == "2:4" else _divisions(weight, rows, gpu.processors)
    # The last reason is that of the layout that asks for least.
    return found, None if found else reasons[-1]


def packed(layer: nn.Linear, ways: list[Way], gpu: Gpu) -> dict[Way, nn.Module]:
    """The layer in each of these ways. Raises InputError where torch does not compress the weight."""
    spans = Spans.pack(layer.weight) if any(way.layout == "spans" for way in ways) else None
    found: dict[Way, nn.Module] = {}
    for way in ways:
        if way.layout == "2:4":
            found[way] = SemiStructuredLinear(layer, gpu.library, gpu.compress).eval()
        else:
            assert spans is not None
            found[way] = SpansLinear(spans, layer.bias, way.tall, way.parts).eval()
    return found


def _call(module: nn.Module, x: Tensor) -> Any:
    return lambda: module(x)


def _unfit_for_spans(weight: Tensor, rows: int) -> str | None:
    if weight.dtype not in KINDS:
        kind = str(weight.dtype).removeprefix("torch.")
        return f"its weight is {kind}, and sparse kernels run in bfloat16 and float16 (--values bf16)"
    if not 1 <= rows <= FEW:
        return f"it is given {rows} rows at a time, and the kernel for single weights takes up to {FEW}"
    alive = int(weight.count_nonzero())
    return None if alive <= (1 - _ZEROS) * weight.numel() and weight.numel() else "it has too few zeros"


def _divisions(weight: Tensor, rows: int, processors: int) -> list[Way]:
    """Heights of programs, each in one part and, where that keeps not all processors busy, in as many as do."""
    outputs, spans = weight.shape[0], -(-weight.shape[1] // SPAN)
    found = []
    for tall in (4, 8, 16) if rows == 1 else (16, 32):
        programs = -(-outputs // tall)
        found += [Way("spans", tall, parts) for parts in sorted({1, min(spans, -(-_BUSY * processors // programs))})]
    return found

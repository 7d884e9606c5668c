"""What `accelerate_gpu` gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from pomona.runtime.gpu.choose import Way
from pomona.vocabulary import aligned

_HEAD = ("layer", "shape", "rows", "zeros", "runs as", "dense ms", "sparse ms")


@dataclass(frozen=True)
class GpuLayer:
    """One linear layer: milliseconds of a call by cuBLAS (`dense_ms`) and in the best other way (`best_ms`), None untimed.

    `way` is how it runs; None where it stays dense, and `reason` says why. `rows` of x it was given at once, `calls` in one pass.
    """

    name: str
    shape: tuple[int, ...]
    sparsity: float
    rows: int
    calls: int
    way: Way | None = None
    dense_ms: float | None = None
    best_ms: float | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class AcceleratedGpu:
    """A model on a GPU, with layers that run sparse where that is faster.

    `layers` are all its Linear; `error` is how far the outputs are off those of the dense weights there, relative in the
    Euclidean norm; `before_ms` and `after_ms` are one pass of both, None untimed; `told` is the whole in a sentence.
    """

    model: nn.Module = field(repr=False)
    layers: tuple[GpuLayer, ...]
    error: float
    target: str
    gpu: str
    told: str
    before_ms: float | None = None
    after_ms: float | None = None

    def table(self) -> str:
        """The layers as text, a line each: what they run as, and their times."""
        lines = aligned([_HEAD, *map(_row, self.layers)])
        if self.before_ms is not None and self.after_ms is not None:
            lines.append(
                f"A pass of the whole model: {self.before_ms:.3g} ms dense, {self.after_ms:.3g} ms now "
                f"({self.before_ms / self.after_ms:.3g}x) on {self.gpu}."
            )
        return "\n".join([*lines, self.told])

    def document(self) -> dict[str, Any]:
        """As plain data."""
        known = ("target", "gpu", "error", "told", "before_ms", "after_ms")
        return {name: getattr(self, name) for name in known} | {"layers": [asdict(layer) for layer in self.layers]}


def sentence(layers: Sequence[GpuLayer]) -> str:
    """What became of the model; where nothing runs sparse, why not."""
    chosen = Counter(layer.way.layout for layer in layers if layer.way)
    if chosen:
        how = ", ".join(f"{count} as {layout}" for layout, count in chosen.most_common())
        return f"{chosen.total()} of {len(layers)} linear layers run sparse ({how})."
    nothing = "No layer runs sparse:"
    if not layers:
        return f"{nothing} the model has no Linear layers."
    timed = [(layer.best_ms / layer.dense_ms, layer) for layer in layers if layer.best_ms is not None and layer.dense_ms]
    if timed:
        ratio, nearest = min(timed, key=lambda pair: pair[0])
        return (
            f"{nothing} cuBLAS on the dense weights is as fast in every layer (the nearest, {nearest.name}, takes {ratio:.2f} of "
            "the dense time). Larger layers, more zeros at batch 1, 2:4 at large batches or removed channels would pay."
        )
    return f"{nothing} {'; '.join(sorted({f'{layer.name}: {layer.reason}' for layer in layers})[:3])}."


def _row(layer: GpuLayer) -> tuple[str, ...]:
    runs = str(layer.way) if layer.way else f"dense ({layer.reason})"
    shape = "x".join(map(str, layer.shape))
    return layer.name, shape, str(layer.rows), f"{layer.sparsity:.0%}", runs, _number(layer.dense_ms), _number(layer.best_ms)


def _number(found: float | None) -> str:
    return "" if found is None else f"{found:.3g}"

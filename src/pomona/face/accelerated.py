"""What `accelerate` gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from pomona.native import library
from pomona.runtime import Latency
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.fuse import Fused
from pomona.vocabulary import aligned

_HEAD = ("layer", "shape", "zeros", "runs as", "dense ms", "now ms", "ratio")


@dataclass(frozen=True)
class Layer:
    """One layer: milliseconds of a call by torch (`dense_ms`) and in the best layout (`best_ms`), None where nothing was timed.

    `candidate` is the layout that it runs in; None where it stays dense, and `reason` says why. `calls` in one forward pass.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sparsity: float
    calls: int
    candidate: Candidate | None = None
    dense_ms: float | None = None
    best_ms: float | None = None
    reason: str | None = None

    @property
    def ratio(self) -> float | None:
        """Time in the best layout / dense time, chosen or not."""
        return self.best_ms / self.dense_ms if self.best_ms is not None and self.dense_ms else None


@dataclass(frozen=True, eq=False)
class Accelerated:
    """A model with packed layers.

    `layers` are all Linear and Conv2d of the model; `error` is how far the outputs are off, relative in the Euclidean norm;
    `fused` counts the ops that packed convolutions have taken along, and where there are any `model` is a torch.fx.GraphModule;
    `latency` compares the model that was there before with this one; `told` is the whole in a sentence.
    """

    model: nn.Module = field(repr=False)
    layers: tuple[Layer, ...]
    error: float
    values: str
    threads: int
    told: str
    fused: int = 0
    latency: Latency | None = None

    @property
    def packed(self) -> Mapping[str, Candidate]:
        """The layers that are packed, by name, and how."""
        return {layer.name: layer.candidate for layer in self.layers if layer.candidate}

    def table(self) -> str:
        """The layers as text, a line each: what they run as, and their times."""
        lines = aligned([_HEAD, *map(_row, self.layers)])
        timed = self.latency
        if timed is not None:
            lines.append(
                f"{timed.before_ms:.3g} ms before, {timed.after_ms:.3g} ms now: {1 / timed.ratio:.3g}x "
                f"(batch {timed.batch}, {timed.threads} threads, {timed.pairs} pairs)."
            )
        return "\n".join([*lines, self.told])

    def document(self) -> dict[str, Any]:
        """As plain data."""
        layers = [
            {**asdict(layer), "candidate": None if layer.candidate is None else layer.candidate.to_json(), "ratio": layer.ratio}
            for layer in self.layers
        ]
        return {
            "values": self.values,
            "threads": self.threads,
            "error": self.error,
            "told": self.told,
            "fused": self.fused,
            "latency": None if self.latency is None else asdict(self.latency),
            "layers": layers,
        }


def sentence(layers: Sequence[Layer], values: str, fused: Fused) -> str:
    """What became of the model; where nothing was packed, what would pay."""
    packed = [layer for layer in layers if layer.candidate]
    if packed:
        how = ", ".join(f"{count} as {name}" for name, count in Counter(str(layer.candidate) for layer in packed).most_common())
        return f"{len(packed)} of {len(layers)} layers run on sparse kernels ({how}).{_fusion(fused)}"
    nothing = "Nothing is packed:"
    if not layers:
        return f"{nothing} the model has no Linear and no Conv2d layers."
    if library().isa is None:
        return f"{nothing} there are no native kernels here ({library().reason}). `pomona doctor` says what is missing."
    tried = [layer for layer in layers if layer.ratio is not None]
    if tried:
        best = min(tried, key=lambda layer: layer.ratio or 1.0)
        return (
            f"{nothing} dense is as fast in every layer (the nearest, {best.name}, takes {best.ratio:.2f} of the dense time at "
            f"{best.sparsity:.0%} zeros). More zeros, blocks (--structure block:8x1), a smaller batch{_rounding(values)}, "
            "or removed channels would pay."
        )
    if any(layer.reason == "it has too few zeros" for layer in layers):
        return (
            f"{nothing} no layer has zeros to leave out. Prune single weights or blocks first (--structure weights, block:8x1)."
        )
    return f"{nothing} {'; '.join(sorted({f'{layer.name}: {layer.reason}' for layer in layers})[:3])}."


def _fusion(fused: Fused) -> str:
    if fused.reason:
        return f" Nothing is fused with them: {fused.reason}."
    return f" They take {fused.ops} ops along (BatchNorm, additions, ReLU)." if fused.ops else ""


def _rounding(values: str) -> str:
    return "" if values == "int8" else ", rounded weights (--values int8)"


def _row(layer: Layer) -> tuple[str, ...]:
    runs = str(layer.candidate) if layer.candidate else f"dense ({layer.reason})"
    now = layer.best_ms if layer.candidate else layer.dense_ms
    ratio = layer.ratio if layer.candidate else None
    shape = "x".join(map(str, layer.shape))
    return layer.name, shape, f"{layer.sparsity:.0%}", runs, _number(layer.dense_ms), _number(now), _number(ratio)


def _number(found: float | None) -> str:
    return "" if found is None else f"{found:.3g}"

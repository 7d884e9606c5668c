"""What `prune` gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from pomona.face.accelerate import accelerate
from pomona.face.accelerate_gpu import accelerate_gpu
from pomona.face.accelerated import Accelerated
from pomona.face.accelerated_gpu import AcceleratedGpu
from pomona.face.report import Report
from pomona.face.saving import save_result
from pomona.graph import Graph
from pomona.graph.restore import restored
from pomona.models import Source
from pomona.vocabulary import Plan, Progress


@dataclass(frozen=True, eq=False)
class Result:
    """A pruned model with the plan that made it and the report of what it cost.

    `model` is the small (or, for weight sparsity, zeroed) module; `graph` the trace of the dense one; `form` says
    what `model` is: "eager" (the same classes, resized), "graph" (the rewritten program) or "masked" (same shapes).
    """

    model: nn.Module
    plan: Plan
    report: Report
    graph: Graph
    form: str
    dense: nn.Module = field(repr=False)
    args: tuple[Any, ...] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)
    source: Source | None = None

    def masked(self) -> nn.Module:
        """The original architecture with the small model's weights where the plan keeps them and zeros elsewhere.

        For anyone who wants to check the proof: on groups that no normaliser crosses, it equals `model`.
        """
        return restored(self.dense, self.graph, self.plan, self.model)

    def accelerate(
        self,
        *,
        batch: int | None = None,
        threads: int | None = None,
        values: str = "f32",
        fused: bool = True,
        latency: bool | Mapping[str, Any] = True,
        progress: Progress | None = None,
    ) -> Accelerated:
        """The pruned model on sparse kernels, each layer as it measures fastest here; timed beside the dense model.

        As `pomona.accelerate`, on the inputs that the model was pruned with. `save(folder, fast=...)` keeps the choice.
        """
        return accelerate(
            self.model,
            self.args,
            self.kwargs,
            batch=batch,
            threads=threads,
            values=values,
            fused=fused,
            latency=latency,
            progress=progress,
            before=self.dense,
        )

    def accelerate_gpu(
        self,
        *,
        target: str = "gpu-sparse",
        batch: int | None = None,
        values: str = "f32",
        latency: bool = True,
        progress: Progress | None = None,
    ) -> AcceleratedGpu:
        """The pruned model on the GPU, each linear layer as it measures fastest there; timed beside its own dense weights.

        As `pomona.accelerate_gpu`, on the inputs that the model was pruned with. It holds for this GPU, so no folder keeps it.
        """
        return accelerate_gpu(
            self.model,
            self.args,
            self.kwargs,
            target=target,
            batch=batch,
            values=values,
            latency=latency,
            progress=progress,
        )

    def save(
        self, folder: str | Path, *, packed: bool = False, largest: int | None = None, fast: Accelerated | None = None
    ) -> Path:
        """Write weights, plan and report into a new folder, whole or not at all; `pomona.load(folder)` opens it.

        With `packed`, sparse weights are stored as bits and living values (`docs/formats.md`). `largest` is how many bytes one
        file of weights may have (None: one file holds all). With what `accelerate` gave as `fast`, `pomona.load` packs the same
        layers again.
        """
        return save_result(self, Path(folder), packed=packed, largest=largest, fast=fast)

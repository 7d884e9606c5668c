"""Predicted costs against independent counters: `python -m benchmarks.costs` writes docs/results/costs.md.

Parameters are counted on the model, MACs by torch's flop counter (and by fvcore, where that is installed), activations as the
storages that a forward pass makes. Then ten thousand candidate plans of a ResNet-50 are costed on one thread.
"""

from __future__ import annotations

import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.named import CNNS, LANGUAGE, Named
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import pomona
from pomona.graph import Graph

OUT = Path(__file__).parents[1] / "docs" / "results" / "costs.md"
PLANS, ALLOWED = 10_000, 0.01


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of every storage that ops make within it; of several results (indices, statistics) the first."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        given = [*model.parameters(), *model.buffers(), *pytree.tree_leaves(inputs)]
        self.seen = {t.untyped_storage()._cdata: t for t in given if isinstance(t, Tensor)}  # held: addresses come again
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The op as it is."""
        made = func(*args, **(kwargs or {}))
        for number, tensor in enumerate(pytree.tree_leaves(made)):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.seen:
                self.seen[tensor.untyped_storage()._cdata] = tensor
                self.bytes += tensor.nbytes if number == 0 else 0
        return made


@dataclass(frozen=True)
class Row:
    """One model: (predicted, counted) of each cost; `fvcore` is its MACs, None where it is not installed."""

    name: str
    params: tuple[int, int]
    macs: tuple[int, int]
    activations: tuple[int, int]
    peak: int
    fvcore: int | None

    @property
    def worst(self) -> float:
        """The largest relative difference."""
        pairs = [self.params, self.macs, self.activations]
        return max(abs(a - b) / b for a, b in pairs)


def compared(named: Named) -> tuple[Row, Graph]:
    """The row of one model, and its graph."""
    model, inputs = named.make()
    graph = pomona.trace(model, inputs)
    run: Callable[[], Any] = (lambda: model(**inputs)) if isinstance(inputs, dict) else (lambda: model(inputs))
    with torch.no_grad():
        with FlopCounterMode(display=False) as flops, sdpa_kernel(SDPBackend.MATH):
            run()
        with Storages(model, inputs) as storages:
            run()
    costs = graph.costs()
    row = Row(
        named.name,
        (costs.params, sum(p.numel() for p in model.parameters())),
        (costs.macs, flops.get_total_flops() // 2),
        (costs.activation_bytes, storages.bytes),
        costs.peak_bytes,
        fvcore_macs(model, inputs),
    )
    return row, graph


def fvcore_macs(model: nn.Module, inputs: Any) -> int | None:
    """What fvcore calls flops, where it is installed and takes the model."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    given = tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)
    with sdpa_kernel(SDPBackend.MATH):
        return int(FlopCountAnalysis(model, given).unsupported_ops_warnings(False).total())


def candidates(graph: Graph, count: int) -> list[dict[str, int]]:
    """Random sizes for every axis that can be pruned."""
    chance = random.Random(0)
    free = [axis for axis in graph.axes.values() if axis.frozen is None]
    return [{axis.name: chance.randint(1, axis.size) for axis in free} for _ in range(count)]


def page(rows: list[Row], seconds: float) -> Iterator[str]:
    """The lines of the result."""
    yield "# Costs against independent counters"
    yield ""
    yield "Predicted from one trace, and counted. Written by `python -m benchmarks.costs`."
    yield ""
    yield "| model | parameters | counted | MACs | torch's flops / 2 | fvcore | activations MB | storages MB | peak MB | worst |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        params, macs = (f"{a:,} | {b:,}" for a, b in (row.params, row.macs))
        made = f"{row.activations[0] / 1e6:.2f} | {row.activations[1] / 1e6:.2f} | {row.peak / 1e6:.2f}"
        other = f"{row.fvcore:,}" if row.fvcore is not None else "not installed"
        yield f"| {row.name} | {params} | {macs} | {other} | {made} | {row.worst:.2%} |"
    yield ""
    yield "Activations are all results of one forward pass on the example inputs; the peak is the most that live at once."
    yield ""
    yield f"{PLANS:,} candidate plans of a ResNet-50 (every axis at a random size) are costed in {seconds:.2f} s on one thread."
    yield ""
    yield f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}."


def main() -> None:
    """Compare, time, write; exits 1 where a difference is above 1 % or ten thousand plans take a second."""
    torch.set_num_threads(1)
    rows, seconds = [], float("inf")
    for named in (*CNNS, *LANGUAGE):
        row, graph = compared(named)
        rows.append(row)
        print(f"{row.name}: worst difference {row.worst:.2%}", flush=True)
        if named.name == "resnet50":
            plans = candidates(graph, PLANS)
            start = time.perf_counter()
            for plan in plans:
                graph.costs(plan)
            seconds = time.perf_counter() - start
            print(f"{PLANS} plans of {row.name} in {seconds:.2f} s", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(page(rows, seconds)) + "\n", encoding="utf-8")
    sys.exit(any(row.worst > ALLOWED for row in rows) or seconds > 1)


if __name__ == "__main__":
    main()

"""Seconds beside Torch-Pruning 1.6.1: `python -m benchmarks.against_torch_pruning` writes docs/results/speed.md.

Both tools prune the same models on one thread, turn by turn in one process, about half the width of everything but the answers.
Torch-Pruning builds its graph, its groups and cuts; it proves nothing. Pomona's time is told twice: up to the cut tensors, which
is what the other tool does, and all of `pomona.prune`, with module code brought up to date, the proof in float64 and the report.
Needs `pip install --no-deps torch_pruning==1.6.1`, which nothing else here does.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.named import BERT, DENSENET121, RESNET50, VIT, Named
from torch import nn

import pomona
from pomona.graph.surgery import kept_units, shrunk
from pomona.vocabulary import Plan

OUT = Path(__file__).parents[1] / "docs" / "results" / "speed.md"
WISH = {"method": "magnitude", "structure": "axes", "goal": "macs=0.25x"}


@dataclass
class Times:
    """Seconds of each round."""

    theirs: list[float] = field(default_factory=list)
    trace: list[float] = field(default_factory=list)
    plan: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    error: float = 0.0
    form: str = ""

    @property
    def unproven(self) -> list[float]:
        """Trace, plan and cut of each round."""
        return [sum(parts) for parts in zip(self.trace, self.plan, self.cut, strict=True)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of the processor, answer): with one thread they are those of a quiet machine, whatever else runs."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def torch_pruning(model: nn.Module, inputs: Any) -> None:
    """Half of every layer by group norms, the last layer kept, heads pruned as heads where the tool is told of them."""
    import torch_pruning as tp

    last = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    heads = {m.qkv: m.num_heads for m in model.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")}
    for m in model.modules():
        if hasattr(m, "query") and hasattr(m, "num_attention_heads"):
            heads |= dict.fromkeys((m.query, m.key, m.value), m.num_attention_heads)
    pruner = tp.pruner.BasePruner(
        model,
        inputs,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=last,
        num_heads=heads,
        prune_num_heads=bool(heads),
        head_pruning_ratio=0.5,
    )
    pruner.step()


def pruned(named: Named, times: Times) -> None:
    """One round of one model, each tool on a copy of its own."""
    model, inputs = named.make()
    copy = deepcopy(model)
    times.theirs.append(timed(lambda: torch_pruning(copy, inputs))[0])
    seconds, graph = timed(lambda: pomona.trace(model, inputs))
    times.trace.append(seconds)
    seconds, plan = timed(lambda: pomona.plan(model, graph, **WISH))
    times.plan.append(seconds)
    times.cut.append(timed(lambda: shrunk(model, graph, kept_units(graph, plan)))[0])
    seconds, result = timed(lambda: pomona.prune(model, inputs, latency=False, **WISH))
    times.total.append(seconds)
    times.error, times.form = result.report.proof.max_error, result.form
    assert isinstance(plan, Plan) and result.report.proof.passed


def spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def page(found: dict[str, Times], rounds: int) -> Iterator[str]:
    """The lines of the result."""
    yield "# Seconds beside Torch-Pruning 1.6.1"
    yield ""
    yield "Written by `python -m benchmarks.against_torch_pruning`: processor seconds of one thread, both tools turn"
    yield f"by turn in one process, medians over {rounds} rounds, in brackets the least and the most. Ratios are taken round by"
    yield "round, pomona over Torch-Pruning: below 1 is faster. Torch-Pruning checks nothing; `to the cut` does what it does"
    yield "(trace, plan, tensors sliced), `proven` is all of `pomona.prune`, with the proof in float64 and the report."
    yield ""
    yield "| model | Torch-Pruning s | to the cut s | ratio | proven s | ratio | a second plan s | proof error | form |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, t in found.items():
        ratios = (spread([a / b for a, b in zip(ours, t.theirs, strict=True)]) for ours in (t.unproven, t.total))
        unproven, proven = ratios
        yield (
            f"| {name} | {spread(t.theirs)} | {spread(t.unproven)} | {unproven} | {spread(t.total)} | {proven} | "
            f"{median(t.plan):.2f} | {t.error:.0e} | {t.form} |"
        )
    yield ""
    yield "Medians of the parts, s:"
    yield ""
    yield "| model | trace | plan | cut |"
    yield "| --- | --- | --- | --- |"
    for name, t in found.items():
        yield f"| {name} | {median(t.trace):.2f} | {median(t.plan):.2f} | {median(t.cut):.2f} |"
    yield ""
    yield f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}."


def main(arguments: Sequence[str] | None = None) -> None:
    """Time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    if find_spec("torch_pruning") is None:
        sys.exit("This compares with Torch-Pruning, which is not installed: pip install --no-deps torch_pruning==1.6.1")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    models = (RESNET50, DENSENET121, VIT, BERT)
    pruned(RESNET50, Times())  # both tools import what they need when first used
    found = {named.name: Times() for named in models}
    for number in range(1, given.rounds + 1):
        for named in models:
            t = found[named.name]
            pruned(named, t)
            ours = f"{t.unproven[-1]:.2f} s to the cut, {t.total[-1]:.2f} s proven"
            print(f"round {number}, {named.name}: {t.theirs[-1]:.2f} s; {ours}", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(page(found, given.rounds)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

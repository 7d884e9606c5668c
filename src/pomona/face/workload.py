"""What a goal in latency is about: the model on inputs of some batch, on some threads, timed on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from pomona.graph import Graph, trace
from pomona.graph.binding import same_model
from pomona.graph.surgery import realise
from pomona.native.library import threads_of
from pomona.runtime import Forecast, Latency, Times
from pomona.runtime.inputs import batch_of, inputs_for
from pomona.runtime.timing import least_seconds, own_clock, threads_set, time_pairs
from pomona.vocabulary import Goal, InputError, Plan, Progress, Silent, evaluating

_PAIRS, _SECONDS = 40, 6.0  # of each measurement while aiming, at most
_ENOUGH = 0.01  # the share by which its result may be off
_MISS = 0.1


@dataclass(frozen=True, eq=False)
class Workload:
    """`threads` is torch's count while timing, `rebatched` whether the inputs have another batch than those traced."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    threads: int
    rebatched: bool
    progress: Progress

    @classmethod
    def of(
        cls,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: bool | Mapping[str, Any] = True,
        progress: Progress | None = None,
    ) -> Workload:
        """The `batch` and `threads` of the latency options; without them the example inputs and torch's own count."""
        wish = options if isinstance(options, Mapping) else {}
        batch, threads = wish.get("batch"), threads_of(wish.get("threads"))
        given, named = inputs_for(model, args, kwargs, batch)
        rebatched = batch is not None and batch != batch_of(*inputs_for(model, args, kwargs))
        return cls(model, given, named, threads, rebatched, progress or Silent())

    def forecast(self, graph: Graph) -> Forecast:
        """The latency of any sizes of the graph's axes, scaled to what the whole model takes here.

        Raises InputError for a model that is not on the CPU, whose op times the table holds.
        """
        if away := next((p.device for p in self.model.parameters() if p.device.type != "cpu"), None):
            raise InputError(
                f"Latency is foretold for CPUs and the model is on {away}; move it with .cpu(), or ask for macs=0.5x."
            )
        times = Times.of(self.threads)
        mine = trace(self.model, self.args, self.kwargs, release=graph.released) if self.rebatched else graph
        with self.progress.stage("timing ops", 1) as stage:
            made = Forecast(mine, times).calibrated(self.milliseconds())
            stage.advance(1)
        for note in times.notes:
            self.progress.note(note)
        return made

    def milliseconds(self) -> float:
        """What one forward pass of the model takes."""
        with threads_set(self.threads), evaluating(self.model), torch.inference_mode():
            return 1e3 * least_seconds(lambda: self.model(*self.args, **self.kwargs))

    def share(self, plan: Plan, graph: Graph) -> float:
        """What the model that the plan makes takes, measured, as a share of what the whole model does.

        The median over pairs that are timed one right after the other.
        """
        small = realise(self.model, graph, plan).model
        with (
            threads_set(self.threads),
            evaluating(self.model, small),
            torch.inference_mode(),
            self.progress.stage("timing", _PAIRS) as stage,
        ):
            timed = time_pairs(
                lambda: self.model(*self.args, **self.kwargs),
                lambda: small(*self.args, **self.kwargs),
                _PAIRS,
                _SECONDS,
                0,
                stage,
                own_clock(),
                _ENOUGH,
            )
        share = median(timed.ratios)
        self.progress.note(f"As measured, this leaves {share:.3g} of the latency.")
        return share


def forecast(
    model: nn.Module,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """The latency of any widths of a model on this machine, without touching the model: `.at({axis: units that stay})`.

    `args` and `kwargs` are example inputs, or `args` is the model's graph; `batch` and `threads` are the workload (None: as in
    the inputs; torch's own). Op times are measured at the first asking and kept in the cache folder (`$POMONA_CACHE`, or
    `pomona` in `$XDG_CACHE_HOME`).

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8)).eval()
    >>> told = pomona.forecast(net, torch.randn(32, 64), threads=1)
    >>> told.at({"0.weight:0": 256}) < told.at({})
    True
    """
    graph = same_model(args, model) if isinstance(args, Graph) else trace(model, args, kwargs)
    positional, keywords = graph.program.example_inputs
    load = Workload.of(model, positional, keywords, {"batch": batch, "threads": threads}, progress)
    return load.forecast(graph)


def missed(goal: str | None, timing: Latency | None) -> list[str]:
    """A note where a goal in latency was missed by more than a tenth."""
    wish = Goal.parse(goal) if goal else None
    if wish is None or wish.cost != "latency" or timing is None:
        return []
    got, asked = (timing.ratio, wish.ratio) if wish.ms is None else (timing.after_ms, wish.ms)
    if abs(got / asked - 1) <= _MISS:
        return []
    unit = "x" if wish.ms is None else " ms"
    return [f"The goal was {wish}; as measured afterwards it is {got:.3g}{unit}."]


def bound(goal: Goal, dense_ms: float) -> Goal:
    """A goal in milliseconds as a share of what the dense model takes; others as they are.

    Raises InputError where the model is that fast already.
    """
    if goal.ms is None:
        return goal
    if goal.ms >= dense_ms:
        raise InputError(f"The model takes {dense_ms:.3g} ms here as it is; ask for less than that, not for {goal.ms:g} ms.")
    return replace(goal, ratio=goal.ms / dense_ms)

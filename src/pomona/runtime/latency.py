"""How long a forward pass takes, before and after, measured in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from pomona.runtime.cold import evict
from pomona.runtime.diagnosis import Diagnosis, diagnose
from pomona.runtime.energy import WATTS, energy_of
from pomona.runtime.engines import ready
from pomona.runtime.inputs import batch_of, inputs_for
from pomona.runtime.pinning import pinned
from pomona.runtime.roofline import reached, unbeaten
from pomona.runtime.timing import Clocks, Pairs, clock_of, quantile, threads_set, time_pairs
from pomona.runtime.work import work_of
from pomona.vocabulary import InputError, Progress, Silent, evaluating, first_line

FASTER = 0.97  # a median ratio above this is not worth the name
_ENERGY = 1.0  # seconds of calls that energy is counted over


@dataclass(frozen=True)
class Rival:
    """The dense model in one engine: median milliseconds, and what the pruned one takes as a share of that."""

    engine: str
    ms: float
    ratio: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class Latency:
    """Two models timed turn by turn. Times are milliseconds per forward pass of the whole batch; `ratio` is after / before.

    `ratio` is the median over the pairs and `spread` their 10 % and 90 % quantiles. `faster` is True when the median
    lies at or below 0.97 and the whole spread below 1; otherwise `reason` says what is in the way and `advice` what
    would help. Where more was asked for: `rivals` are the dense model in other engines, in the same rounds, the fastest first;
    `limit_ms` is the least that this machine could take for what `after` reads and multiplies; `joules` are those of one pass
    before and after, by what `energy_by` says.
    """

    before_ms: float
    after_ms: float
    ratio: float
    spread: tuple[float, float]
    batch: int
    threads: int
    pairs: int
    samples_before_ms: tuple[float, ...]
    samples_after_ms: tuple[float, ...]
    faster: bool
    reason: str | None = None
    advice: str | None = None
    clock: Clocks = "wall"
    cold: bool = False
    pinned: tuple[int, ...] = ()
    rivals: tuple[Rival, ...] = ()
    limit_ms: float | None = None
    joules: tuple[float, float] | None = None
    energy_by: str | None = None

    @property
    def reached(self) -> str | None:
        """The share of the limit that `after` reached, in words."""
        return None if self.limit_ms is None else reached(self.limit_ms, self.after_ms)


def measure_latency(
    before: nn.Module,
    after: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch: int | None = None,
    threads: int | None = None,
    pairs: int = 30,
    seconds: float = 5.0,
    seed: int = 0,
    cold: bool = False,
    clock: Clocks = "wall",
    pin: bool = False,
    engines: Sequence[str] = (),
    limit: bool = False,
    energy: bool = False,
    watts: float = WATTS,
    progress: Progress | None = None,
) -> Latency:
    """Time `before` and `after` on the same inputs, interleaved in random order, in evaluation mode without gradients.

    `args` and `kwargs` are example inputs (a tensor, a tuple or a dict); `batch` repeats or cuts them along dimension 0.
    `threads` is torch's thread count for the run (None: as it is). At most `pairs` pairs are timed, fewer when
    `seconds` are over, five at least. Where the weights of either happen to lie in memory is part of what is timed: on shared
    virtual machines that moved the ratio of two models of the same work by a tenth; in doubt, measure in another process, too.

    `cold` empties the caches before every call, as a model larger than they are finds them. `clock="cpu"` counts processor
    time, summed over threads, for machines that do other things as well. `pin` keeps the process on as many processors as it
    has threads, where the system can. `engines` names others to run `before` in: "compile", "onnxruntime", "openvino".
    `limit` and `energy` ask for these fields; `watts` are a busy core's, where no counter can be read. Raises InputError when
    a model does not run on these inputs or in these engines.

    >>> wide, thin = torch.nn.Linear(512, 2048), torch.nn.Linear(512, 16)
    >>> measure_latency(wide, thin, torch.randn(64, 512), pairs=5, seconds=1.0).faster
    True
    """
    if pairs < 1 or seconds <= 0:
        raise InputError(f"Timing needs at least one pair and some time; got {pairs} pairs in {seconds:g} seconds.")
    ticks = clock_of(clock)
    positional, keywords = inputs_for(before, args, kwargs, batch)
    size = batch_of(positional, keywords)
    with (
        threads_set(threads) as running,
        evaluating(before, after),
        torch.inference_mode(),
        (progress or Silent()).stage("timing", pairs) as stage,
    ):
        for model in (before, after):
            check_runs(model, positional, keywords, size)
        dense, small = (partial(model, *positional, **keywords) for model in (before, after))
        others = [ready(engine, before, positional, keywords) for engine in engines]
        empty = evict() if cold else None
        with pinned(running) if pin else nullcontext(()) as where:
            timed = time_pairs(dense, small, pairs, seconds, seed, stage, ticks, prepare=empty, others=others)
        old, new = (work_of(model, positional, keywords) for model in (before, after))
        spent = [energy_of(call, min(seconds, _ENERGY), watts) for call in (dense, small)] if energy else None
        least = _least(running, stored(after), 2 * new.macs, cold, median(timed.after)) if limit else None
    found = _judged(timed, size, running, lambda took, ratio, noisy: diagnose(old, new, took, size, ratio, noisy))
    return replace(
        found,
        clock=clock,
        cold=cold,
        pinned=where,
        rivals=_rivals(engines, timed),
        limit_ms=None if least is None else 1e3 * least,
        joules=None if spent is None else (spent[0].joules, spent[1].joules),
        energy_by=None if spent is None else spent[0].said,
    )


def _least(threads: int, nbytes: int, operations: float, cold: bool, took: float) -> float:
    """Seconds that this machine needs for so much, at least; its limits are measured anew where `took` was less."""
    limits = unbeaten(threads, lambda found: took < found.seconds(nbytes, operations, cold))
    return limits.seconds(nbytes, operations, cold)


def _judged(timed: Pairs, batch: int, threads: int, explain: Callable[[float, float, bool], Diagnosis]) -> Latency:
    ratio, spread = _summary(timed.ratios)
    faster = ratio <= FASTER and spread[1] < 1
    cause = None if faster else explain(median(timed.after), ratio, ratio <= FASTER)
    return Latency(
        before_ms=1e3 * median(timed.before),
        after_ms=1e3 * median(timed.after),
        ratio=ratio,
        spread=spread,
        batch=batch,
        threads=threads,
        pairs=len(timed.ratios),
        samples_before_ms=tuple(1e3 * s for s in timed.before),
        samples_after_ms=tuple(1e3 * s for s in timed.after),
        faster=faster,
        reason=cause.reason if cause else None,
        advice=cause.advice if cause else None,
    )


def _rivals(engines: Sequence[str], timed: Pairs) -> tuple[Rival, ...]:
    found = [
        Rival(engine, 1e3 * median(samples), *_summary(Pairs(samples, timed.after).ratios))
        for engine, samples in zip(engines, timed.others, strict=True)
    ]
    return tuple(sorted(found, key=lambda rival: rival.ms))


def _summary(ratios: list[float]) -> tuple[float, tuple[float, float]]:
    return median(ratios), (quantile(ratios, 0.1), quantile(ratios, 0.9))


def stored(model: nn.Module) -> int:
    """Bytes of all parameters and buffers: what one pass reads, in whatever layout it lies."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def check_runs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: int) -> None:
    """Raise InputError unless the model takes these inputs."""
    try:
        model(*args, **kwargs)
    # The forward pass is the user's; whatever it raises means that it does not take these inputs.
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"{type(model).__name__} does not run on these inputs at batch {batch}: {reason}.") from error

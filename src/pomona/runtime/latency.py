"""How long a forward pass takes, before and after, measured in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from pomona.graph.export import inputs_of
from pomona.runtime.diagnosis import Diagnosis, diagnose
from pomona.runtime.inputs import batch_of, resized
from pomona.runtime.timing import Pairs, quantile, threads_set, time_pairs
from pomona.runtime.work import work_of
from pomona.vocabulary import InputError, Progress, Silent, evaluating, first_line

FASTER = 0.97  # a median ratio above this is not worth the name


@dataclass(frozen=True)
class Latency:
    """Two models timed turn by turn. Times are milliseconds per forward pass of the whole batch; `ratio` is after / before.

    `ratio` is the median over the pairs and `spread` their 10 % and 90 % quantiles. `faster` is True when the median
    lies at or below 0.97 and the whole spread below 1; otherwise `reason` says what is in the way and `advice` what
    would help.
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
    progress: Progress | None = None,
) -> Latency:
    """Time `before` and `after` on the same inputs, interleaved in random order, in evaluation mode without gradients.

    `args` and `kwargs` are example inputs (a tensor, a tuple or a dict); `batch` repeats or cuts them along dimension 0.
    `threads` is torch's thread count for the run (None: as it is). At most `pairs` pairs are timed, fewer when
    `seconds` are over, five at least. Raises InputError when a model does not run on these inputs.

    >>> wide, thin = torch.nn.Linear(512, 2048), torch.nn.Linear(512, 16)
    >>> measure_latency(wide, thin, torch.randn(64, 512), pairs=5, seconds=1.0).faster
    True
    """
    if pairs < 1 or seconds <= 0:
        raise InputError(f"Timing needs at least one pair and some time; got {pairs} pairs in {seconds:g} seconds.")
    positional, keywords = inputs_of(args, kwargs)
    if batch is not None:
        positional, keywords = resized(positional, keywords, batch)
    size = batch_of(positional, keywords)
    with (
        threads_set(threads) as running,
        evaluating(before, after),
        torch.inference_mode(),
        (progress or Silent()).stage("timing", pairs) as stage,
    ):
        for model in (before, after):
            _check_runs(model, positional, keywords, size)
        timed = time_pairs(
            lambda: before(*positional, **keywords), lambda: after(*positional, **keywords), pairs, seconds, seed, stage
        )
        old, new = (work_of(model, positional, keywords) for model in (before, after))
    return _judged(timed, size, running, lambda took, ratio, noisy: diagnose(old, new, took, size, ratio, noisy))


def _judged(timed: Pairs, batch: int, threads: int, explain: Callable[[float, float, bool], Diagnosis]) -> Latency:
    ratios = timed.ratios
    ratio, spread = median(ratios), (quantile(ratios, 0.1), quantile(ratios, 0.9))
    faster = ratio <= FASTER and spread[1] < 1
    cause = None if faster else explain(median(timed.after), ratio, ratio <= FASTER)
    return Latency(
        before_ms=1e3 * median(timed.before),
        after_ms=1e3 * median(timed.after),
        ratio=ratio,
        spread=spread,
        batch=batch,
        threads=threads,
        pairs=len(ratios),
        samples_before_ms=tuple(1e3 * s for s in timed.before),
        samples_after_ms=tuple(1e3 * s for s in timed.after),
        faster=faster,
        reason=cause.reason if cause else None,
        advice=cause.advice if cause else None,
    )


def _check_runs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: int) -> None:
    try:
        model(*args, **kwargs)
    # The forward pass is the user's; whatever it raises means that it does not take these inputs.
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"{type(model).__name__} does not run on these inputs at batch {batch}: {reason}.") from error

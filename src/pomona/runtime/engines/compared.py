"""A model in every engine: read from a file, compared with itself, timed in turns."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from pomona.runtime.cold import evict
from pomona.runtime.engines.engine import Engine, Running
from pomona.runtime.engines.files import Files
from pomona.runtime.engines.table import EngineTable, Row
from pomona.runtime.export import difference, outputs, quiet
from pomona.runtime.inputs import batch_of
from pomona.runtime.latency import check_runs, stored
from pomona.runtime.onnx import redrawn
from pomona.runtime.pinning import pinned
from pomona.runtime.roofline import Roofline, unbeaten
from pomona.runtime.timing import FEWEST, SETTLED, Clocks, Sampler, clock_of, quantile, sampler, threads_set, turns
from pomona.runtime.work import work_of
from pomona.vocabulary import InputError, Progress, evaluating, first_line

EXACT = 1e-4  # of the largest output: sums in another order
HALF = 0.03  # the same for models in bfloat16 or float16, whose own sums are that rough
_CLAUSE = 160  # letters of somebody else's error that a row has room for


@dataclass(frozen=True, eq=False)
class _Tried:
    """An engine that runs, or did not."""

    row: Row
    running: Running | None = None


@dataclass(frozen=True)
class _Dense:
    """What a pass of the dense model reads and multiplies."""

    reads: int
    operations: float


def compared(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    engines: Sequence[Engine],
    *,
    threads: int | None,
    rounds: int,
    seconds: float,
    seed: int,
    cold: bool,
    clock: Clocks,
    pin: bool,
    tolerance: float | None,
    progress: Progress,
) -> EngineTable:
    """Every engine's row; see `pomona.bench`. An engine that fails says why in its row, and the others go on."""
    ticks = clock_of(clock)
    with threads_set(threads) as running, evaluating(model), tempfile.TemporaryDirectory() as folder:
        size = batch_of(args, kwargs)
        with torch.inference_mode():
            check_runs(model, args, kwargs, size)
            trials = [(args, kwargs), redrawn(args, kwargs)]
            expected = [outputs(model, *trial) for trial in trials]
            if any(bool(tensor.isnan().any()) for tensor in chain(*expected)):
                raise InputError(f"{type(model).__name__} gives NaN on these inputs; engines cannot be compared by that.")
            allowed = _allowed(expected) if tolerance is None else tolerance
            dense = _Dense(stored(model), 2 * work_of(model, args, kwargs).macs)
        files, tried = Files(model, args, kwargs, Path(folder)), []
        with progress.stage("making engines ready", len(engines)) as stage:
            for engine in engines:
                tried.append(_tried(engine, files, trials, expected, allowed))
                gc.collect()  # exporters leave graphs that hold each other, and the weights
                stage.advance(engine=engine.name)
        able = [each.running for each in tried if each.running is not None and each.running.timed]
        with torch.inference_mode(), progress.stage("timing", rounds) as stage:
            prepare = evict() if cold else None
            samplers = [_sampler(each.call, ticks, prepare) for each in able]
            samples: list[tuple[float, ...]] = []
            with pinned(running) if pin else nullcontext(()) as where:
                taking = turns(samplers, seed, SETTLED if running > 1 else 0.0)
                end = perf_counter() + seconds
                while able and len(samples) < rounds and (len(samples) < FEWEST or perf_counter() < end):
                    samples.append(next(taking))
                    stage.advance(1)
        taken = [(each, median(times)) for each, times in zip(able, zip(*samples, strict=True), strict=True)]
        limits = unbeaten(running, lambda found: any(s < _limit(r, dense, found, cold) for r, s in taken)) if able else None
    rows = _with_times(tried, list(zip(*samples, strict=True)), dense, limits, cold)
    return EngineTable(tuple(rows), size, running, len(samples), allowed, clock, cold, where)


def _tried(
    engine: Engine,
    files: Files,
    trials: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
    expected: Sequence[list[Tensor]],
    tolerance: float,
) -> _Tried:
    row, start = Row(engine.name, engine.dense), perf_counter()
    try:
        with quiet():
            with torch.inference_mode(False), torch.no_grad():
                running = engine.opened(files)
            with torch.inference_mode():
                if running.timed:
                    running.call()
                    row = replace(row, ready_s=perf_counter() - start)
                gaps = [
                    difference(list(running.outputs(*trial)), right[: running.first], least=0.0)
                    for trial, right in zip(trials, expected, strict=True)
                ]
    # Compilers, exporters and engines raise what they like; the row says it, and the table goes on.
    except Exception as refusal:
        return _Tried(replace(row, why=_clause(refusal)))
    error = max(gaps)
    return _Tried(replace(row, error=error, holds=error <= tolerance, nbytes=running.nbytes, note=running.note), running)


def _allowed(expected: Sequence[list[Tensor]]) -> float:
    half = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in chain(*expected))
    return HALF if half else EXACT


def _clause(error: Exception) -> str:
    said = first_line(error).rstrip(".")
    known = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
    return known if len(known) <= _CLAUSE else f"{known[:_CLAUSE].rstrip()} ..."


def _sampler(call: Callable[[], object], clock: Callable[[], float], prepare: Callable[[], object] | None) -> Sampler:
    """With warm weights, those of the engine before are driven out by a pass that is not timed."""
    sample = sampler(call, clock, prepare)
    if prepare is not None:
        return sample

    def again() -> float:
        call()
        return sample()

    return again


def _with_times(
    tried: Sequence[_Tried], samples: Sequence[tuple[float, ...]], dense: _Dense, limits: Roofline | None, cold: bool
) -> list[Row]:
    taken = iter(samples)
    own = [next(taken) if each.running is not None and each.running.timed else () for each in tried]
    least = {place: median(times) for place, times in enumerate(own) if times and tried[place].row.holds}
    fastest = min(least, key=least.__getitem__, default=None)
    base = min((place for place in least if tried[place].row.dense), key=least.__getitem__, default=None)
    rows = []
    for each, times in zip(tried, own, strict=True):
        row = each.row
        if times and each.running is not None and limits is not None:
            row = replace(row, ms=1e3 * median(times), spread=_spread([1e3 * s for s in times]))
            row = replace(row, limit_ms=1e3 * _limit(each.running, dense, limits, cold))
            if base is not None:
                ratios = [mine / theirs for mine, theirs in zip(times, own[base], strict=True)]
                row = replace(row, ratio=median(ratios), ratio_spread=_spread(ratios))
            if fastest is not None:
                row = replace(row, near=median(mine / theirs for mine, theirs in zip(times, own[fastest], strict=True)))
        rows.append(row)
    return rows


def _limit(running: Running, dense: _Dense, limits: Roofline, cold: bool) -> float:
    reads = dense.reads if running.reads is None else running.reads
    operations = dense.operations if running.operations is None else running.operations
    return limits.seconds(reads, operations, cold, running.int8)


def _spread(samples: Sequence[float]) -> tuple[float, float]:
    ascending = sorted(samples)
    return quantile(ascending, 0.1), quantile(ascending, 0.9)

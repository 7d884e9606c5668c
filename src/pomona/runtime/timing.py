"""Timing two functions fairly on a machine that does other things as well."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from statistics import median
from time import perf_counter, thread_time
from typing import TypeAlias

import torch

from pomona.vocabulary import InputError, Stage

Clock: TypeAlias = Callable[[], float]  # seconds since some time
_SHORTEST = 2e-3  # seconds a sample should last, so that the clock and the interpreter's hiccups are small beside it
_LONG = 20e-3  # from here on one warming call does: it sees enough, and costs enough
_FEWEST = 5
_BRIEF = 1e-3  # seconds a sample of an op lasts: there are hundreds of them
_SLOW = 5e-3  # from here on three samples of an op must do


@dataclass(frozen=True)
class Pairs:
    """Seconds per call of two functions, pair by pair: the two of a pair were timed one right after the other."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """After / before of each pair, ascending."""
        return sorted(b / a for a, b in zip(self.before, self.after, strict=True))

    @property
    def doubt(self) -> float:
        """How far the median ratio may be off, as a share of it.

        Half of the 95 % interval between order statistics, which asks for no shape of the noise.
        """
        ratios, part = self.ratios, 0.98 / sqrt(len(self.before))
        low, high = quantile(ratios, max(0.0, 0.5 - part)), quantile(ratios, min(1.0, 0.5 + part))
        return (high - low) / 2 / quantile(ratios, 0.5)


def own_clock() -> Clock:
    """Where torch has one thread, that thread's own clock: what other programs take meanwhile is not ours. Else the wall's."""
    return thread_time if torch.get_num_threads() == 1 else perf_counter


def time_pairs(
    before: Callable[[], object],
    after: Callable[[], object],
    pairs: int,
    seconds: float,
    seed: int,
    stage: Stage,
    clock: Clock = perf_counter,
    enough: float = 0.0,
) -> Pairs:
    """Time both functions in `pairs` pairs, in random order within a pair; fewer when `seconds` are over (5 at least).

    A slow spell of the machine then falls on both alike, and neither profits from always coming second. Fewer, too, once the
    median ratio is in doubt by no more than `enough`: a quiet machine needs few pairs, a busy one many.
    """
    draw = random.Random(seed)
    repeats = {function: _repeats(function) for function in (before, after)}
    samples: dict[Callable[[], object], list[float]] = {before: [], after: []}
    end = perf_counter() + seconds
    timed = Pairs((), ())
    while len(timed.before) < pairs and (len(timed.before) < _FEWEST or (perf_counter() < end and timed.doubt > enough)):
        for function in draw.sample((before, after), 2):
            samples[function].append(_seconds(function, repeats[function], clock))
        timed = Pairs(tuple(samples[before]), tuple(samples[after]))
        stage.advance(1)
    return timed


def quantile(ascending: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie, interpolated.

    >>> quantile([0.0, 1.0, 2.0, 3.0], 0.5)
    1.5
    """
    place = share * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


def median_seconds(function: Callable[[], object]) -> float:
    """The median over some samples, each long enough for the clock, after warming up.

    By the clock of `own_clock`.
    """
    clock = own_clock()
    function()
    once = _loop(function, 1, clock)
    repeats = max(1, min(1000, round(_BRIEF / max(once, 1e-7))))
    return median(_loop(function, repeats, clock) for _ in range(5 if once < _SLOW else 3))


@contextmanager
def threads_set(threads: int | None) -> Iterator[int]:
    """Torch's thread count set to `threads` (None: left alone), then put back; yields the count in force."""
    if threads is not None and threads < 1:
        raise InputError(f"At least one thread is needed; got {threads}.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _repeats(function: Callable[[], object]) -> int:
    """Calls per sample, after warming up: first calls allocate, pack weights and pick kernels."""
    function()
    once = _loop(function, 1, perf_counter)
    if once < _LONG:
        once = min(once, _loop(function, 1, perf_counter))
    return max(1, min(1000, round(_SHORTEST / max(once, 1e-7))))


def _seconds(function: Callable[[], object], repeats: int, clock: Clock) -> float:
    if repeats > 1:
        function()  # the other function has just filled the caches with its own weights
    return _loop(function, repeats, clock)


def _loop(function: Callable[[], object], repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        function()
    return (clock() - start) / repeats

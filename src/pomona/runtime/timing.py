"""Timing functions fairly on a machine that does other things as well."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from time import perf_counter, process_time, sleep, thread_time
from typing import Literal, TypeAlias

import torch

from pomona.native.library import threads_of
from pomona.vocabulary import InputError, Stage

Clock: TypeAlias = Callable[[], float]  # seconds since some time
Clocks: TypeAlias = Literal["wall", "cpu"]
Sampler: TypeAlias = Callable[[], float]  # runs something, and tells the seconds of one call
_SHORTEST = 2e-3  # seconds a sample should last, so that the clock and the interpreter's hiccups are small beside it
_LONG = 20e-3  # from here on one warming call does: it sees enough, and costs enough
FEWEST = 5
SETTLED = 0.01  # seconds after which the threads of a pool that has nothing to do sleep
_BRIEF = 1e-3  # seconds a sample of an op lasts: there are hundreds of them
_MOST, _AGREE = 25, 1.05  # samples of an op on a machine that does other things as well
_SLOW = 5e-3  # from here on few samples of an op must do


@dataclass(frozen=True)
class Pairs:
    """Seconds per call of two functions, pair by pair: the two of a pair were timed one right after the other.

    `others` are those of further functions in the same rounds, function by function.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    others: tuple[tuple[float, ...], ...] = ()

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


def clock_of(name: Clocks) -> Clock:
    """What "wall" and "cpu" mean.

    "cpu" is processor time of this process, summed over its threads: what other programs take is not in it, but waiting is
    where a pool of threads waits busily. Raises InputError for any other name.
    """
    clocks: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}
    if name not in clocks:
        raise InputError(f"There is no clock {name!r}; take 'wall', or 'cpu' for the processor time of this process.")
    return clocks[name]


def sampler(function: Callable[[], object], clock: Clock = perf_counter, prepare: Callable[[], object] | None = None) -> Sampler:
    """How a function is timed: long enough for the clock, with its weights in the caches.

    With `prepare` a single call is a sample, and `prepare` runs before each, outside of the clock: to empty the caches, say.
    """
    if prepare is None:
        repeats = _repeats(function)
        return lambda: _seconds(function, repeats, clock)
    function()  # first calls allocate, pack weights and pick kernels

    def sample() -> float:
        prepare()
        return _loop(function, 1, clock)

    return sample


def turns(samplers: Sequence[Sampler], seed: int = 0, pause: float = 0.0) -> Iterator[tuple[float, ...]]:
    """One sample of each, round after round without end, in random order within a round.

    A slow spell of the machine then falls on all alike, and none profits from always coming second. `pause` is how many seconds
    to sleep before each sample: where engines have threads of their own, those of the one before wait busily for a while.
    """
    draw, order = random.Random(seed), range(len(samplers))
    while True:
        found: dict[int, float] = {}
        for place in draw.sample(order, len(order)):
            if pause:
                sleep(pause)
            found[place] = samplers[place]()
        yield tuple(found[place] for place in order)


def time_pairs(
    before: Callable[[], object],
    after: Callable[[], object],
    pairs: int,
    seconds: float,
    seed: int,
    stage: Stage,
    clock: Clock = perf_counter,
    enough: float = 0.0,
    prepare: Callable[[], object] | None = None,
    others: Sequence[Callable[[], object]] = (),
) -> Pairs:
    """Time both functions in `pairs` pairs, in random order within a pair; fewer when `seconds` are over (5 at least).

    Fewer, too, once the median ratio is in doubt by no more than `enough`: a quiet machine needs few pairs, a busy one many.
    `prepare` is as in `sampler`; `others` take their turns in every round.
    """
    samples: list[tuple[float, ...]] = []
    pause = SETTLED if others and torch.get_num_threads() > 1 else 0.0
    rounds = turns([sampler(function, clock, prepare) for function in (before, after, *others)], seed, pause)
    end = perf_counter() + seconds
    timed = Pairs((), ())
    while len(samples) < pairs and (len(samples) < FEWEST or (perf_counter() < end and timed.doubt > enough)):
        samples.append(next(rounds))
        old, new, *further = zip(*samples, strict=True)
        timed = Pairs(old, new, tuple(further))
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


def least_seconds(function: Callable[[], object]) -> float:
    """The least of samples, each long enough for the clock, after warming up: others only ever take from a machine.

    They are taken until the best three agree within 5 %, 25 at most, few of what is slow. By the clock of `own_clock`.
    """
    clock = own_clock()
    function()
    once = _loop(function, 1, clock)
    repeats = max(1, min(1000, round(_BRIEF / max(once, 1e-7))))
    best: list[float] = []
    for _ in range(_MOST if once < _SLOW else 5):
        best = sorted([*best, _loop(function, repeats, clock)])[:3]
        if len(best) == 3 and best[2] <= _AGREE * best[0]:
            break
    return best[0]


@contextmanager
def threads_set(threads: int | None) -> Iterator[int]:
    """Torch's thread count set to `threads` (None: left alone), then put back; yields the count in force.

    Raises InputError for counts that `threads_of` refuses.
    """
    wanted, before = threads_of(threads), torch.get_num_threads()
    torch.set_num_threads(wanted)
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

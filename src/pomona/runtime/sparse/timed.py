"""The times of several functions that do the same, taken turn by turn, with warm weights or with cold ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from pomona.runtime.cold import evict
from pomona.runtime.timing import own_clock

_ROUNDS = 9
_COLD = 5  # rounds with cold weights: emptying the caches takes a hundred times as long as the call
_TRIAL = 2  # rounds after which what is hopeless is not timed any more
_HOPELESS = 1.6  # times the fastest
_BRIEF = 1e-3  # seconds a warm sample lasts


@dataclass(frozen=True)
class Turn:
    """A function to time. `ready` is called before it where weights are cold: the same code on something tiny.

    In a model only the weights are cold; the interpreter's and the kernels' own code is used all the time.
    """

    call: Callable[[], object]
    ready: Callable[[], object]


def turns_timed(turns: Mapping[str, Turn], cold: bool, seed: int = 0) -> dict[str, float]:
    """Seconds of one call of each, comparable: the first one's median, times the median ratio of the others to it.

    By the thread's own clock where torch has one thread (`own_clock`). The first is timed in all rounds; what is far behind
    after a few of them is let go.
    """
    clock, draw, first = own_clock(), random.Random(seed), next(iter(turns))
    repeats = {name: 1 if cold else _repeats(turn, clock) for name, turn in turns.items()}
    rounds: list[dict[str, float]] = []
    left = list(turns)
    for number in range(_COLD if cold else _ROUNDS):
        took = {name: _sample(turns[name], repeats[name], cold, clock) for name in draw.sample(left, len(left))}
        rounds.append(took)
        if number + 1 == _TRIAL:
            best = {name: min(took[name] for took in rounds) for name in left}
            left = [name for name in left if name == first or best[name] <= _HOPELESS * min(best.values())]
    reference = median(took[first] for took in rounds)
    ratios = {name: median(took[name] / took[first] for took in rounds if name in took) for name in turns}
    return {name: reference * ratio for name, ratio in ratios.items()}


def _sample(turn: Turn, repeats: int, cold: bool, clock: Callable[[], float]) -> float:
    if cold:
        evict()()
        turn.ready()
    else:
        turn.call()  # the one before it has just filled the caches with its own weights
    start = clock()
    for _ in range(repeats):
        turn.call()
    return max((clock() - start) / repeats, 1e-9)


def _repeats(turn: Turn, clock: Callable[[], float]) -> int:
    turn.call()
    start = clock()
    turn.call()
    return max(1, min(200, round(_BRIEF / max(clock() - start, 1e-7))))

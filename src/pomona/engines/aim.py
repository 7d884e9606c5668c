"""Aiming: a goal that a price only foretells is met as measured, by asking for a little more or less."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import TypeVar

from pomona.vocabulary import InputError

Found = TypeVar("Found")

NEAR = 0.03  # off the goal by this share of it is a hit: measuring again differs as much
_SHOTS = 5
_FARTHEST = 2.0  # what is asked for changes by at most this factor from shot to shot


def aimed(goal: float, cut: Callable[[float], Found], measure: Callable[[Found], float], floor: float = 0.0) -> Found:
    """What `cut` makes of the request whose measured share comes nearest to `goal`.

    `cut` takes a share of the foretold price, `measure` says what is really left; both are shares of the dense model. The
    first request is the goal itself; the next ones come from a power law through the last two shots (through one: in
    proportion), or between shots on both sides of the goal as soon as there are such. Never asks for less than `floor`, which
    is what can be reached, or for all. Raises InputError where `cut` cannot meet the goal itself; a later request that it
    cannot meet ends the aiming.
    """
    asked, shots = goal, list[tuple[float, float, Found]]()
    for number in range(_SHOTS):
        try:
            found = cut(asked)
        except InputError:
            if number == 0:
                raise
            break  # the goal itself can be asked for; beyond it lies less than what must stay
        got = measure(found)
        shots.append((asked, got, found))
        if abs(got / goal - 1) <= NEAR:
            break
        following = min(1.0, max(floor, _next(goal, shots)))
        if any(abs(following / before - 1) < 1e-3 for before, _, _ in shots):
            break
        asked = following
    return min(shots, key=lambda shot: abs(shot[1] / goal - 1))[2]


def _next(goal: float, shots: list[tuple[float, float, Found]]) -> float:
    """Where a power law meets the goal: through the nearest shots on both sides of it, else through the last two.

    A slope that measuring has spoilt is taken as 1.
    """
    over, under = ([shot for shot in shots if (shot[1] > goal) is side] for side in (True, False))
    asked, got, _ = shots[-1]
    slope = 1.0
    if over and under:
        (high, most, _), (low, least, _) = min(over, key=lambda shot: shot[1]), max(under, key=lambda shot: shot[1])
        if high > low and least < most:
            return low * exp(log(high / low) * log(goal / least) / log(most / least))
    elif len(shots) > 1:
        before, had, _ = shots[-2]
        slope = _slope(got / had, asked / before)
    factor: float = (goal / got) ** (1 / slope)
    return asked * min(_FARTHEST, max(1 / _FARTHEST, factor))


def _slope(rise: float, run: float) -> float:
    found = log(rise) / log(run) if run != 1 else 1.0
    return found if 0.2 <= found <= 3 else 1.0

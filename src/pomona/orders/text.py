"""Orders in plain words."""

from __future__ import annotations

from difflib import get_close_matches

from pomona.orders.assignment import Assignment
from pomona.orders.swaps import Swaps
from pomona.vocabulary import InputError, Order

_WORDS: dict[str, Order | None] = {"swaps": Swaps(), "assignment": Assignment(), "none": None}


def order(text: str) -> Order | None:
    """The order that a word means; raises InputError with the nearest right spelling.

    >>> order("swaps")
    Swaps(sweeps=20, seed=0)
    """
    if text not in _WORDS:
        close = get_close_matches(text, list(_WORDS), 1)
        hint = f"did you mean '{close[0]}'?" if close else "say swaps, assignment or none."
        raise InputError(f"There is no order '{text}'; {hint}")
    return _WORDS[text]

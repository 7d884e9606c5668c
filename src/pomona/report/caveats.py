"""What a reader should know about the groups that were pruned: where it is approximate, and who was held at the minimum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def caveats(report: Mapping[str, Any]) -> Iterator[str]:
    """One sentence each, none where there is nothing to say."""
    if over := approximate(report):
        first, places = next(iter(over.items()))
        ways = first + (f" ({listed(places)})" if places else "") + (f" and {len(over) - 1} more" if len(over) > 1 else "")
        yield f"Approximate over {count(over, 'group')}, which a normaliser looks across: {ways}; --exact prunes around them."
    if names := held(report):
        yield f"Held at the least that may stay: {listed(names)}."


def approximate(report: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Pruned group -> the normalisers that make it approximate; empty lists from reports that did not record them."""
    proof: Mapping[str, Any] = report.get("proof") or {}
    known = {str(row.get("name")): row.get("normalisers") or () for row in report.get("sites") or ()}
    return {str(name): known.get(str(name), ()) for name in proof.get("approximate_groups") or ()}


def held(report: Mapping[str, Any]) -> list[str]:
    """The sites that kept the least that they may."""
    return [str(row.get("name")) for row in report.get("sites") or () if row.get("held")]


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def count(things: Mapping[str, Any] | Sequence[Any], word: str) -> str:
    """How many, with the word in the right number."""
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"

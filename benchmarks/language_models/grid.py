"""A table in markdown, and its cells."""

from __future__ import annotations

from collections.abc import Sequence


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Its lines, the head first."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def told(value: float | None, how: str) -> str:
    """A cell, empty where there is no number."""
    return "" if value is None else f"{value:{how}}"

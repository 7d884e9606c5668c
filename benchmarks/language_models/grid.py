"""A table in markdown, and its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Its lines, the head first."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def told(value: float | None, how: str) -> str:
    """A cell, empty where there is no number."""
    return "" if value is None else f"{value:{how}}"


def by_processor(seconds: Mapping[str, float]) -> str:
    """Seconds with the processor that took them, where it is known."""
    return ", ".join(f"{value:.0f}{f' ({cpu})' if cpu else ''}" for cpu, value in seconds.items())

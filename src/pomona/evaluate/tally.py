"""What one measure hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ClassQuality:
    """How well one class is recognised; `support` is how many of its examples there were."""

    label: str
    support: int
    value: float


@dataclass(frozen=True)
class Tally:
    """A value, how many examples it rests on, and its parts by class."""

    value: float
    examples: int
    per_class: tuple[ClassQuality, ...] = ()


class Meter(Protocol):
    """Called once a batch, with numbers to show."""

    def __call__(self, amount: float = 1, **numbers: float | str) -> None:
        """So much more is done."""
        ...

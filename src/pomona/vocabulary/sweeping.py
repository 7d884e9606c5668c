"""Prices that tell more than one number at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pomona.vocabulary.goals import Price
from pomona.vocabulary.scores import Keeps


@runtime_checkable
class Sweeping(Price, Protocol):
    """A price that can tell many counts of one site faster than one by one."""

    def along(self, keeps: Keeps, name: str, counts: Sequence[int]) -> Sequence[float]:
        """The price at each of these counts of the site `name`, the other sites keeping what `keeps` says."""
        ...

"""What recoveries with low-rank adapters have in common."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

from pomona.recovery.partial import Partial
from pomona.vocabulary import InputError


@dataclass(frozen=True)
class LowRank(Partial, ABC):
    """Adapters are products of a tall and a wide matrix; `rank` is how wide the tall one is. Raises InputError below 1."""

    rank: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f"The rank of an adapter is at least 1; {self.rank} is not.")

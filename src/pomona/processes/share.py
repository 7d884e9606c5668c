"""Which of the data are whose: batch i is read by process i mod n."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any


@dataclass(frozen=True, eq=False)
class Share:
    """Every `number`-th of the batches, from the one of `rank` on. All are drawn, so that what is shuffled is so everywhere."""

    batches: Iterable[Any]
    rank: int
    number: int

    def __iter__(self) -> Iterator[Any]:
        return islice(self.batches, self.rank, None, self.number)

    def __len__(self) -> int:
        """Number of batches in this share; zero where there are fewer batches than processes."""
        whole = len(self.batches) if isinstance(self.batches, Sized) else sum(1 for _ in self.batches)
        return share_of(whole, self.rank, self.number)


def share_of(whole: int, rank: int, number: int) -> int:
    """How many of so many batches the process of this rank reads."""
    return len(range(rank, whole, number))

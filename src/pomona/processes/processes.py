"""One process among those of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pomona.processes.share import Share, share_of
from pomona.processes.transfer import gathered, received, sent

T = TypeVar("T")
_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Processes:
    """`number` processes, of which this is the one of `rank`; by default there is no other and everything here is free.

    What is exchanged goes through the memory of the host, so models may lie on any devices. All processes must come to the same
    exchanges in the same order. Each raises `Lost` where another one is gone, or silent for longer than `joined` allows.
    """

    rank: int = 0
    number: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, measures and tells."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.number > 1

    def share(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches that this process reads."""
        return Share(batches, self.rank, self.number) if self.several else batches

    def share_of(self, whole: int) -> int:
        """How many of so many batches this process reads."""
        return share_of(whole, self.rank, self.number)

    def place(self, number: int) -> int:
        """Which batch of all data the `number`-th of this process's share is, both counted from 1."""
        return (number - 1) * self.number + self.rank + 1

    def broadcast(self, value: T, source: int, device: torch.device = _CPU) -> T:
        """What the process of rank `source` gives: a tree of tensors and plain values. Others get its tensors on `device`."""
        if self.group is None:
            return value
        if self.rank == source:
            return sent(value, self.group)
        found: T = received(source, self.group, device)
        return found

    def of_first(self, make: Callable[[], T], device: torch.device = _CPU) -> T:
        """What `make` returns in the first process, where alone it is called."""
        if self.group is None:
            return make()
        if self.first:
            return sent(make(), self.group)
        found: T = received(0, self.group, device)
        return found

    def all(self, value: T) -> list[T]:
        """What every process gives, in the order of ranks; plain values, no tensors."""
        return [value] if self.group is None else gathered(value, self.group)

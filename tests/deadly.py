"""A progress that ends its run in the middle: for stories about what is left, and about going on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pomona.vocabulary import Silent


def shoot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


class Deadly(Silent):
    """Does it when so many blocks are done."""

    def __init__(self, die: Callable[[], None] = shoot, blocks: int = 2) -> None:
        self.left, self.die = blocks, die

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Any]:
        yield self if name == "blocks" else Silent()

    def advance(self, amount: int = 1, **numbers: Any) -> None:
        self.left -= 1
        if not self.left:
            self.die()

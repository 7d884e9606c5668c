"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One piece of long work under way."""

    def advance(self, amount: float = 1, **numbers: float | str) -> None:
        """So much more is done; `numbers` (loss, accuracy, ...) are shown beside the bar."""
        ...


class Progress(Protocol):
    """Something that shows stages: a terminal, a log, nothing."""

    def stage(self, name: str, total: float | None = None) -> AbstractContextManager[Stage]:
        """Open a stage of `total` units of work (None: unknown)."""
        ...

    def note(self, text: str) -> None:
        """Say one line."""
        ...


class Silent:
    """Shows nothing: the default of the library."""

    def advance(self, amount: float = 1, **numbers: float | str) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to say."""

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Stage]:
        """A stage that shows nothing."""
        yield self

"""Progress on stderr: live bars where someone watches, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 10.0  # seconds between two lines of one stage in a log


def watching() -> Bars | Lines:
    """Bars on a terminal, lines elsewhere."""
    return Bars(Console(stderr=True)) if sys.stderr.isatty() else Lines()


class Bars:
    """One bar a stage, with the numbers of the last step beside it; inner stages are indented and vanish when done."""

    def __init__(self, console: Console) -> None:
        # No markup: a layer may be called "[red]".
        name, numbers = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[numbers]}", "cyan", markup=False)
        columns = (name, BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), numbers)
        self._live = Progress(SpinnerColumn(finished_text="✓"), *columns, console=console)
        self._depth = 0

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Bar]:
        """A bar of `total` units; None pulses until it is over."""
        if self._depth == 0:
            self._live.start()
        task = self._live.add_task("  " * self._depth + name, total=total, numbers="")
        self._depth += 1
        try:
            yield Bar(self._live, task)
            if total is None:
                self._live.update(task, total=1, completed=1)
        finally:
            self._depth -= 1
            self._close(task)

    def _close(self, task: TaskID) -> None:
        if self._depth == 0:
            self._live.stop()  # leaves the finished bar on the screen
        self._live.remove_task(task)

    def note(self, text: str) -> None:
        """One line above the bars."""
        self._live.console.print(text, markup=False, highlight=False)


@dataclass(frozen=True)
class Bar:
    """One row of the live view."""

    live: Progress
    task: TaskID

    def advance(self, amount: float = 1, **numbers: float | str) -> None:
        """Move on; the numbers stay until the next ones come."""
        self.live.advance(self.task, amount)
        if numbers:
            self.live.update(self.task, numbers=_beside(numbers))


class Lines:
    """A line when a stage ends, and one every ten seconds while it runs."""

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Line]:
        """A stage that tells its end and, if long, its way there."""
        line = Line(name, total)
        yield line
        line.say(f"done in {time.monotonic() - line.start:.1f} s")

    def note(self, text: str) -> None:
        """One line."""
        print(text, file=sys.stderr, flush=True)


@dataclass
class Line:
    """One stage in a log."""

    name: str
    total: float | None
    start: float = field(default_factory=time.monotonic)
    done: float = 0
    numbers: str = ""
    spoken: float = field(default_factory=time.monotonic)

    def advance(self, amount: float = 1, **numbers: float | str) -> None:
        """Move on; speak only now and then."""
        self.done += amount
        self.numbers = _beside(numbers) if numbers else self.numbers
        if time.monotonic() - self.spoken >= EVERY:
            self.spoken = time.monotonic()
            self.say(f"{self.done:g}/{self.total:g}" if self.total else f"{self.done:g}")

    def say(self, state: str) -> None:
        """`name: state  numbers`."""
        print(f"{self.name}: {state}" + (f"  {self.numbers}" if self.numbers else ""), file=sys.stderr, flush=True)


def _beside(numbers: dict[str, float | str]) -> str:
    return "  ".join(f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}" for name, value in numbers.items())

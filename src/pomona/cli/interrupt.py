"""Ctrl-C remembered: a library that is interrupted while it loads may turn the interrupt into an error of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def remembered() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C raises KeyboardInterrupt as ever; the function that is given says whether it came."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    # Whoever ignores or handles the signal (a shell's background job, a test runner) keeps doing so.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

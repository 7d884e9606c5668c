"""Threads kept on the same processors while they are timed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pomona.runtime.machine import processors

_TASKS = Path("/proc/self/task")


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """All threads of this process on the last `threads` of its processors, afterwards where they were.

    Yields these processors; none where the system cannot pin (Linux can). The last ones, because the first serves interrupts.
    """
    if not (hasattr(os, "sched_setaffinity") and _TASKS.is_dir()):
        yield ()
        return
    everywhere = processors()
    chosen = everywhere[-threads:]
    before = {task: os.sched_getaffinity(task) for task in _tasks()}
    try:
        _place({task: set(chosen) for task in before})
        yield chosen
    finally:  # threads that began meanwhile took over what was set for the one that began them
        _place({task: before.get(task, set(everywhere)) for task in _tasks()})


def _tasks() -> list[int]:
    return [int(folder.name) for folder in _TASKS.iterdir()]


def _place(wanted: dict[int, set[int]]) -> None:
    for task, where in wanted.items():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(task, where)

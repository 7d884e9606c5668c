"""From the first word between the processes that a launcher started to the last."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import NoReturn

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pomona.processes.ending import Elsewhere, Notice
from pomona.processes.processes import Processes
from pomona.vocabulary import InputError, first_line

_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def joined(timeout: timedelta = timedelta(minutes=30)) -> Iterator[Processes]:
    """The processes that `torchrun` started, of which this is one; without a launcher it is alone.

    Leave it to this context to start and end `torch.distributed`. An error in one process ends all of them: it is raised as
    it is where it came first, and as `Elsewhere` in the others, so that it is told once. A process that dies without a word is
    noticed at once, one that is silent after `timeout`: the others then raise `Lost`. Raises InputError where the processes
    do not find each other within `timeout`, or `torch.distributed` runs already.

    >>> with joined() as processes:
    ...     processes.rank, processes.number
    (0, 1)
    """
    if any(name not in os.environ for name in _LAUNCHED) or int(os.environ["WORLD_SIZE"]) == 1:
        yield Processes()
        return
    if dist.is_initialized():
        raise InputError("torch.distributed runs already; let joined() start it, and end what was started before.")
    store, rank, number = _met(timeout)
    dist.init_process_group("gloo", store=PrefixStore("exchange", store), rank=rank, world_size=number, timeout=timeout)
    notice = Notice(PrefixStore("notice", store), number)
    try:
        with _ended_by_launcher():
            yield Processes(rank, number, dist.group.WORLD)
    except BaseException as error:
        _end(notice, error, rank == 0)
        raise
    _end(notice, None, rank == 0)


def _met(timeout: timedelta) -> tuple[Store, int, int]:
    try:
        met: tuple[Store, int, int] = next(rendezvous("env://", timeout=timeout))
    except RuntimeError as error:
        number, place = os.environ["WORLD_SIZE"], f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(f"The {number} processes did not meet at {place} ({first_line(error)}); start all of them.") from None
    return met


def _end(notice: Notice, error: BaseException | None, last: bool) -> None:
    """Leave together; raises Elsewhere where another process has told what ended the run."""
    try:
        before = None if error is None else notice.post(error)
        dist.destroy_process_group()  # whoever waits for this process finds out
        notice.leave(wait=error is not None, last=last)
    except RuntimeError:  # the store went with the process that kept it: nobody is left to speak to
        return
    if before is not None:
        raise Elsewhere(before) from error


@contextmanager
def _ended_by_launcher() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl-C is: launchers send it to all when one has failed, and half-written folders must go."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt

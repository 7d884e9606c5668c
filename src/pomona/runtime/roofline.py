"""What this machine can do at most: the limits that a kernel's time is compared with."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import torch

from pomona.native.buffers import size
from pomona.native.library import library, threads_of
from pomona.runtime.cold import Evict, read
from pomona.runtime.kept import here_on, kept_at
from pomona.runtime.machine import caches, processors
from pomona.runtime.timing import threads_set
from pomona.vocabulary import write_atomically

FORMAT = 1
_RUNS = 9  # of which the fastest counts: a limit is what the machine gives when nobody else takes from it
_LONG = 0.02  # seconds a run should last
_TRIES = 3  # by which it is found how many make such a run: one that is interrupted seems long


@dataclass(frozen=True)
class Roofline:
    """Bytes a second from memory, the last cache and a core's own one; float32 and int8 operations a second (two a product).

    `by` is the instruction set of the kernels that measured, or "torch"; then `dot` is 0, for torch has no int8 product to ask.
    `own` and `shared` are the bytes of the two caches.
    """

    threads: int
    by: str
    memory: float
    last_cache: float
    own_cache: float
    fma: float
    dot: float
    own: int
    shared: int

    def seconds(self, nbytes: int, operations: float = 0.0, cold: bool = False, int8: bool = False) -> float:
        """The least time for reading these bytes and doing these operations, both at once.

        Where weights are warm, every cache is thought to hold as much of them as it can.

        >>> limits = Roofline(1, "avx512", 1e10, 3e10, 1e11, fma=1.5e11, dot=7e11, own=1 << 21, shared=1 << 25)
        >>> limits.seconds(20_000_000, cold=True), limits.seconds(100, operations=3e11)
        (0.002, 2.0)
        """
        rate = self.dot if int8 and self.dot else self.fma
        own = 0 if cold else min(nbytes, self.own * self.threads)
        shared = 0 if cold else min(nbytes - own, self.shared)
        reading = own / self.own_cache + shared / self.last_cache + (nbytes - own - shared) / self.memory
        return max(reading, operations / rate)


def roofline(threads: int | None = None, fresh: bool = False) -> Roofline:
    """The limits of this machine on so many threads (None: torch's); measured in a few seconds, then kept in the cache folder.

    More threads than processors have the limits of as many. `fresh` measures once more and keeps the better of each: other
    programs only ever take from it. Raises InputError below one thread.
    """
    threads = min(threads_of(threads), len(processors()))
    about = _about(threads)
    path = kept_at("roofline", about)
    known = _read(path)
    if known is not None and not fresh:
        return known
    limits = _measured(threads) if known is None else _better(known, _measured(threads))
    write_atomically(path, json.dumps({**about, "limits": asdict(limits)}, indent=1).encode())
    return limits


def unbeaten(threads: int, beats: Callable[[Roofline], bool]) -> Roofline:
    """The limits of this machine, measured once more where what was timed `beats` those that were kept."""
    limits = roofline(threads)
    return roofline(threads, fresh=True) if beats(limits) else limits


def reached(limit: float, took: float) -> str:
    """The share of a limit that was reached, in words; nobody does more than all, so that a limit was measured too low."""
    return f"{limit / took:.0%}" if limit <= took else "over 100%"


def burst(parts: int, threads: int) -> float:
    """So many parts of float32 multiply-adds that read nothing, for somebody who holds the clock; how many operations they were.

    One part takes some 10 microseconds of one core. 0 where there are no kernels, and nothing was done.
    """
    return _multiplied("roofline_fma", parts, threads_of(threads))


def _read(path: Path) -> Roofline | None:
    """What was measured before; None where there is nothing or it is damaged, which measuring anew mends."""
    try:
        return Roofline(**json.loads(path.read_bytes())["limits"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _better(one: Roofline, other: Roofline) -> Roofline:
    rates = ("memory", "last_cache", "own_cache", "fma", "dot")
    return replace(one, **{name: max(getattr(one, name), getattr(other, name)) for name in rates})


def _about(threads: int) -> dict[str, Any]:
    return {"format": FORMAT, **here_on(threads), "by": library().isa or "torch", "caches": caches()}


def _measured(threads: int) -> Roofline:
    own, shared = caches()
    with threads_set(threads):
        memory = _bytes(Evict().buffer, threads)
        # A cache is as fast as what lies behind it, at least: where it seems slower, somebody else had the processor.
        last = max(memory, _bytes(torch.zeros(isqrt(own * shared) // 4), threads))
        return Roofline(
            threads=threads,
            by=library().isa or "torch",
            memory=memory,
            last_cache=last,
            own_cache=max(last, _bytes(torch.zeros(threads * own // 2 // 4), threads)),
            fma=_operations("roofline_fma", threads) or _products(),
            dot=_operations("roofline_dot", threads),
            own=own,
            shared=shared,
        )


def _bytes(buffer: torch.Tensor, threads: int) -> float:
    return _best(lambda times: read(buffer, threads, times), threads) * buffer.nbytes


def _operations(name: str, threads: int) -> float:
    """Operations a second of a kernel that only computes; 0 where there are no kernels."""
    parts = 4 * threads
    each = _multiplied(name, parts, 1)
    return each and each * _best(lambda times: _multiplied(name, times * parts, threads), threads)


def _multiplied(name: str, parts: int, threads: int) -> float:
    """How many operations so many parts of this kernel were; 0 where there are no kernels, and nothing was done."""
    kernel, done = library().kernel(name), ctypes.c_double()
    if kernel is not None:
        kernel(size(parts), ctypes.byref(done), threads)
    return done.value


def _products() -> float:
    """The same by torch's product of large matrices, which comes close."""
    a = torch.zeros(1024, 1024)

    def multiply(times: int) -> None:
        for _ in range(times):
            a @ a

    return _best(multiply, torch.get_num_threads()) * 2 * 1024**3


def _best(run: Callable[[int], object], threads: int) -> float:
    """Runs a second of the fastest of some runs, each long enough for the clock even where nobody disturbs it."""
    clock = thread_time if threads == 1 else perf_counter

    def took(times: int) -> float:
        start = clock()
        run(times)
        return max(clock() - start, 1e-9)

    took(1)
    times = 1
    while (least := min(took(times) for _ in range(_TRIES))) < _LONG / 2:
        times *= min(1024, max(2, round(_LONG / least)))
    return times / min(took(times) for _ in range(_RUNS))

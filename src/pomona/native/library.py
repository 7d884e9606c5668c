"""Finding the library of native kernels, and which of its instruction sets to use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from pomona.native.team import torch_team
from pomona.vocabulary import InputError

VERSION = 3  # of the arguments; native/core/processor.cpp has the same
ISAS = ("avx512", "avx2", "neon", "portable")  # best first
_MOST_THREADS = 256  # native/core/threads.cpp has the same
_HERE = Path(__file__).with_name("_kernels.so")


@dataclass(frozen=True)
class Library:
    """What runs the kernels: a library and the instruction set of it, or nothing and the `reason`.

    `isas` are those that this machine can run, best first; `isa` is the one in use, None where torch does the work.
    """

    path: Path | None
    isas: tuple[str, ...] = ()
    isa: str | None = None
    reason: str | None = None
    _handle: Any = field(default=None, repr=False, compare=False)

    def kernel(self, name: str) -> Callable[..., int] | None:
        """The C function for the instruction set in use; None where there is no library, and torch is to do it."""
        return None if self._handle is None or self.isa is None else _function(self._handle, f"pomona_{self.isa}_{name}")

    def core(self, name: str) -> Callable[..., int] | None:
        """A C function that is the same for all instruction sets."""
        return None if self._handle is None else _function(self._handle, f"pomona_{name}")


def library() -> Library:
    """The library in use.

    `POMONA_NATIVE` names another one, or is "off"; `POMONA_ISA` asks for a lesser instruction set; both are read at first use.
    Raises InputError where what they ask for is not there.
    """
    return _used[-1] if _used else _asked_for()


@contextmanager
def using(isa: str | None) -> Iterator[Library]:
    """Within this block kernels of `isa`, or torch's equivalents for None. For tests and comparisons, not for threads.

    >>> with using(None) as torch_alone:
    ...     torch_alone.kernel("linear") is None
    True
    """
    now = library()
    if isa is None:
        chosen = Library(None, reason="torch was asked for")
    elif isa in now.isas:
        chosen = replace(now, isa=isa)
    else:
        raise InputError(f"There are no kernels for {isa!r} here; there are {', '.join(now.isas) or 'none'}.")
    _used.append(chosen)
    try:
        yield chosen
    finally:
        _used.pop()


_used: list[Library] = []


@cache
def _asked_for() -> Library:
    return _found(os.environ.get("POMONA_NATIVE", ""), os.environ.get("POMONA_ISA", ""))


def _found(native: str, isa: str) -> Library:
    if native == "off":
        return Library(None, reason="POMONA_NATIVE=off")
    path = Path(native) if native else _HERE
    if not path.is_file():
        if native:
            raise InputError(f"POMONA_NATIVE names {path}, which is not there.")
        return Library(None, reason="the kernels were not built when Pomona was installed (is there a C++ compiler?)")
    try:
        handle = ctypes.CDLL(str(path.resolve()))
        version = handle.pomona_version()
    except (OSError, AttributeError) as error:
        return Library(None, reason=f"{path.name} cannot be loaded ({error})")
    if version != VERSION:
        return Library(None, reason=f"{path.name} is of version {version}, this Pomona needs {VERSION}: install again")
    if (team := torch_team()) is not None:
        handle.pomona_use_team(ctypes.c_void_p(team))
    isas = tuple(name for name in ISAS if _has(handle, name))
    if isa and isa not in isas:
        raise InputError(f"POMONA_ISA asks for {isa!r}; this machine and library have {', '.join(isas)}.")
    return Library(path, isas, isa or isas[0], None, handle)


def _has(handle: Any, isa: str) -> bool:
    return bool(handle.pomona_supports(isa.encode())) and hasattr(handle, f"pomona_{isa}_linear")


@cache
def _function(handle: Any, name: str) -> Callable[..., int]:
    found = getattr(handle, name, None)
    if found is None:
        raise InputError(f"The native library has no {name}: it is older than this Pomona. Install again, or run 'make native'.")
    found.restype = ctypes.c_int
    function: Callable[..., int] = found
    return function


def threads_of(threads: int | None) -> int:
    """How many threads a kernel may use: torch's number where none is asked for.

    Raises InputError below 1, and for more than the pool has and torch uses already, which systems may refuse to start.
    """
    own = torch.get_num_threads()
    if threads is None:
        return own
    most = max(_MOST_THREADS, own)
    if isinstance(threads, bool) or not isinstance(threads, Integral) or not 1 <= threads <= most:
        raise InputError(f"At least one thread is needed and at most {most}, in whole numbers; got {threads!r}.")
    return int(threads)

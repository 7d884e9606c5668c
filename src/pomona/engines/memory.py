"""How much memory this process takes, and how people write it."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pomona.vocabulary import InputError

_MMAP_THRESHOLD, _OWN, _SHARED = -3, 1 << 23, 1 << 25  # of glibc's mallopt; bytes: here, and what it goes up to by itself
_GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))  # v2, v1
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


def parse(text: str | int) -> int:
    """Bytes from `2GB`, `800MB`, `1.5GiB` or a number.

    >>> parse("2GB"), parse("1.5 GiB"), parse(1000)
    (2000000000, 1610612736, 1000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(text).strip().upper())
    if found is None or found[2] not in _UNITS or not (size := int(float(found[1]) * _UNITS[found[2]])):
        raise InputError(f"'{text}' is no size of memory; write it like 2GB or 800MB.")
    return size


def told(size: float) -> str:
    """Bytes as people read them.

    >>> told(2.34e9), told(7e6)
    ('2.34 GB', '7 MB')
    """
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def resident() -> int:
    """Bytes of this process in memory now."""
    return _status("VmRSS") or _highest()


def available(system: Path = Path("/")) -> int:
    """Bytes that this process can still get: of the machine and, in a container, of what the container may take.

    All that the machine has, where it does not say what is free.
    """
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if (path := system / "proc/meminfo").is_file():
        found = re.search(r"^MemAvailable:\s*(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
        free = int(found[1]) * 1024 if found else free
    for most, taken in _GROUPS:
        limit, used = (system / "sys/fs/cgroup" / name for name in (most, taken))
        if limit.is_file() and used.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            free = min(free, max(0, int(text) - int(used.read_text(encoding="ascii"))))
    return free


class Peak:
    """The most memory that this process takes from now on, above what it takes now."""

    def __init__(self) -> None:
        trim()
        self._reset = _reset_peak()
        self.base = resident()

    @property
    def bytes(self) -> int:
        """So far; where the system cannot forget an older peak, at most that one."""
        return max(0, (_status("VmHWM") or _highest()) - self.base)


@contextmanager
def frugal() -> Iterator[None]:
    """Tensors get memory of their own, which goes back to the system when they are freed, where the C library can do so.

    It would put those below 32 MB side by side into a heap, whose holes count as memory of the process.
    """
    if not _mallopt(_OWN):
        yield
        return
    try:
        yield
    finally:
        _mallopt(_SHARED)
        trim()


def trim() -> None:
    """Give freed memory back to the system, where the C library can: it keeps small pieces otherwise."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _mallopt(size: int) -> bool:
    """From how many bytes on an allocation is a mapping of its own; False where that cannot be set."""
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, size))


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux, or not allowed: the peak of the whole process stands
        return False
    return True


def _status(word: str) -> int | None:
    path = Path("/proc/self/status")
    if not path.is_file():
        return None
    found = re.search(rf"^{word}:\s*(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _highest() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

"""Files that appear whole or not at all, and the folder of those that can be made again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pomona.vocabulary.errors import InputError

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(folder: Path) -> Iterator[None]:
    """Within it, a disk (or a quota) that is full is told in a sentence: raises InputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # Safetensors tells what the system said in words of its own.
        full = error.errno in _FULL if isinstance(error, OSError) else any(f"os error {n})" in str(error) for n in _FULL)
        if not full:
            raise
        raise InputError(f"The disk of {folder} is full; free some of it or choose another folder.") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Either the old file or the whole new one, whatever happens; raises InputError where the disk is full."""
    with room_for(path.parent):
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def cache_folder() -> Path:
    """`$POMONA_CACHE`, or `pomona` in `$XDG_CACHE_HOME` (`~/.cache` where that is not set); made when missing."""
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("POMONA_CACHE") or shared / "pomona")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex, read a megabyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

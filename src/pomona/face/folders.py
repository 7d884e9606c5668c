"""Folders that appear whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pomona.vocabulary import InputError, room_for


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the final one that takes its name when all in it is written; raises InputError where the disk is full."""
    check_free(folder)
    partial = _partial(folder)
    _sweep(folder)
    try:
        with room_for(folder.parent):
            partial.mkdir(parents=True)
            yield partial
            if folder.exists():
                folder.rmdir()  # empty, check_free saw to it
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """An unnamed folder where `folder` will be, gone at the end: room of the same size for who writes nothing that stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
        yield Path(made)


def _sweep(folder: Path) -> None:
    """Remove what killed runs left half-written beside `folder`; a run that still lives keeps its own."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        owner = left.name.removesuffix(".partial").rpartition(".")[2]
        if owner.isdigit() and (int(owner) == os.getpid() or not _alive(int(owner))):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks and does nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so there
        return True
    return True


def check_free(folder: Path) -> None:
    """Raises InputError unless `folder` can be made: new, or there and empty, where a folder can be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already; choose another output folder or remove it.")
    missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
    # Asking for rights is not enough: root has them all, and /proc takes no folder from anybody.
    tried = _partial(missing[-1] if missing else folder.absolute())
    try:
        tried.mkdir()
        tried.rmdir()
    except OSError as error:
        why = f"{tried.parent} is not a folder that you may write to ({(error.strerror or 'refused').lower()})"
        raise InputError(f"{folder} cannot be written: {why}.") from None


def check_outside(folder: Path, model: str | Path) -> None:
    """Raises InputError where `folder` would lie within the folder that `model` is: what goes in stays as it is."""
    if Path(model).is_dir() and folder.resolve().is_relative_to(Path(model).resolve()):
        raise InputError(f"{folder} lies in {model}, which is the model that is read; choose an output folder beside it.")


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.partial")

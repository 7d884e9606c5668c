"""Exported programs: `.pt2` files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.graph.export import runnable
from pomona.models.source import Source
from pomona.vocabulary import InputError, first_line


def load(path: Path) -> dict[str, Any]:
    """The module of an exported program and the example inputs that were saved with it.

    torch reads parts of such a file with pickle, so it deserves the trust that a Python file does.
    """
    program = _read(path)
    example = program.example_inputs
    return {
        "model": runnable(program),
        "source": Source("program", str(path.resolve())),
        "example": None if example is None else (tuple(example[0]), dict(example[1])),
    }


def rebuild(source: Source) -> nn.Module:
    """Read the program again."""
    return runnable(_read(Path(source.value)))


def _read(path: Path) -> torch.export.ExportedProgram:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a readable exported program (it may be truncated); write it with torch.export.save.")
    try:
        return torch.export.load(str(path))
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise InputError(
            f"{path} is not a readable exported program ({first_line(error)}); write it with torch.export.save."
        ) from None

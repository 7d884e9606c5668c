"""Exported programs: `.pt2` files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.models.source import Source
from pomona.vocabulary import InputError


def load(path: Path) -> dict[str, Any]:
    """The module of an exported program and the example inputs that were saved with it.

    torch reads parts of such a file with pickle, so it deserves the trust that a Python file does.
    """
    program = _read(path)
    example = program.example_inputs
    return {
        "model": _module(program),
        "source": Source("program", str(path.resolve())),
        "example": None if example is None else (tuple(example[0]), dict(example[1])),
    }


def rebuild(source: Source) -> nn.Module:
    """Read the program again."""
    return _module(_read(Path(source.value)))


def _read(path: Path) -> torch.export.ExportedProgram:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a readable exported program (it may be truncated); write it with torch.export.save.")
    try:
        return torch.export.load(str(path))
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise InputError(
            f"{path} is not a readable exported program ({_first_line(error)}); write it with torch.export.save."
        ) from None


def _module(program: torch.export.ExportedProgram) -> nn.Module:
    module = program.module()
    # torch plants train() and eval() that raise. The mode was settled at export, so the plain ones are true here.
    for name in ("train", "eval"):
        vars(module).pop(name, None)
    return module.eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

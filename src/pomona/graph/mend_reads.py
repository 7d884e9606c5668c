"""Which attributes of modules a forward pass reads: what it does not read cannot change what it does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

Reads = set[tuple[int, str]]  # the id of a module, and an attribute

_EVERYTHING = ("__dict__", "__reduce_ex__")  # what `vars` and `copy` look up
_PASSING = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))  # whose own book-keeping goes through every module


@contextmanager
def reads() -> Iterator[Reads]:
    """Within it every look-up of an attribute of a module is written down in the set that it yields."""
    found: Reads = set()
    plain, before = nn.Module.__getattribute__, vars(nn.Module).get("__getattribute__")

    def look_up(module: nn.Module, name: str) -> Any:
        if name != "__dict__" or not sys._getframe(1).f_code.co_filename.startswith(_PASSING):
            found.add((id(module), name))
        return plain(module, name)

    nn.Module.__getattribute__ = look_up  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        if before is None:
            del nn.Module.__getattribute__
        else:
            nn.Module.__getattribute__ = before  # type: ignore[method-assign]


def was_read(found: Reads, module: nn.Module, attribute: str) -> bool:
    """Whether an attribute was looked up; one of an object that the module holds (`config.heads`) always may have been."""
    return "." in attribute or any((id(module), name) in found for name in (attribute, *_EVERYTHING))

"""Where in the code of a module a call stands: its method, or a function on the way from one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import TypeAlias

import torch
from torch import nn

TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Call:
    """A call in the code of a function: where it ends, as `co_positions` counts lines and columns (column None: unknown).

    Where two end together, as in `a / b.sqrt()`, `begin` tells them apart (line and column). It may stand in a function or
    comprehension within that code. Where a method called a function that made the call, `through` has the calls on the way, the
    method's first, with what each of them called (None where that cannot be found by its name). `held` is the attribute under
    which the module holds the function, which then is no method.
    """

    code: CodeType
    kind: str
    line: int
    column: int | None
    begin: tuple[int | None, int | None] = (None, None)
    through: tuple[tuple[Call, FunctionType | None], ...] = ()
    held: str | None = None


@dataclass(frozen=True, eq=False)
class Way:
    """The method of `module` that is running, then the functions that it called, down to the call; each with its frame."""

    module: nn.Module
    steps: list[Step]
    held: str | None = None

    def call(self, kind: str) -> Call:
        """The call at its end."""
        through = tuple((_site(outer, "function"), _function(inner, self.module)) for outer, inner in pairwise(self.steps))
        last = _site(self.steps[-1], kind)
        return replace(last, through=through, held=self.held)


Step: TypeAlias = tuple[FrameType, CodeType]  # where it runs, and the whole function in which that stands


def caller(frame: FrameType | None) -> FrameType | None:
    """The innermost frame outside torch."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return frame


def forward_of(frame: FrameType | None, names: Mapping[int, str]) -> tuple[str, str, int] | None:
    """The module whose `forward` is running, and where: file and line, as a trace tells them. None within torch's own layers."""
    outer = frame
    while outer is not None and not (outer.f_code.co_name == "forward" and id(_first(outer)) in names):
        outer = outer.f_back
    if outer is None or outer.f_code.co_filename.startswith(TORCH):
        return None
    return names[id(_first(outer))], outer.f_code.co_filename, outer.f_lineno


def way_to(frame: FrameType | None, names: Mapping[int, str]) -> Way | None:
    """From the innermost method of a module (by its id in `names`) to this frame; None where there is none."""
    steps: list[Step] = [(frame, frame.f_code)] if frame is not None else []
    outer = frame
    while outer is not None:
        module = _first(outer)
        if module is not None and id(module) in names and is_method(type(module), outer.f_code):
            top = steps[0][1]
            held = [name for name, f in vars(module).items() if isinstance(f, FunctionType) and f.__code__ is top]
            if top is not outer.f_code and held:
                return Way(module, steps, held[0])
            return Way(module, _joined((outer, outer.f_code), steps))
        if not outer.f_code.co_filename.startswith(TORCH):
            steps = _joined((outer, outer.f_code), steps)
        outer = outer.f_back
    return None


def _joined(outer: Step, steps: list[Step]) -> list[Step]:
    """With another function before; what stands in its own code (a comprehension, a function within) is a place of it."""
    inside = [number for number, (_, code) in enumerate(steps) if contains(outer[1], code)]
    if not inside:
        return [outer, *steps]
    return [(steps[inside[-1]][0], outer[1]), *steps[inside[-1] + 1 :]]


@lru_cache(maxsize=4096)
def contains(outer: CodeType, inner: CodeType) -> bool:
    """Whether a function is, or stands in, another."""
    return outer is inner or any(contains(c, inner) for c in outer.co_consts if isinstance(c, CodeType))


def is_method(kind: type, code: CodeType) -> bool:
    """Whether this is the code of a plain method of a class."""
    known = (f for base in kind.__mro__ for f in (vars(base).get(code.co_name), *vars(base).values()))
    return any(isinstance(f, FunctionType) and f.__code__ is code for f in known)


def _first(frame: FrameType) -> nn.Module | None:
    """The first argument, if it is a module."""
    code = frame.f_code
    value = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return value if isinstance(value, nn.Module) else None


def _function(step: Step, module: nn.Module) -> FunctionType | None:
    """The function that is running, if it stands in its file under its name, or in the class as a static method."""
    frame, code = step
    statics = [vars(base).get(code.co_name) for base in type(module).__mro__]
    known = [frame.f_globals.get(code.co_name), *(s.__func__ for s in statics if isinstance(s, staticmethod))]
    return next((f for f in known if isinstance(f, FunctionType) and f.__code__ is code), None)


def _site(step: Step, kind: str) -> Call:
    frame, code = step
    if sys.version_info >= (3, 11):
        first, line, start, column = list(frame.f_code.co_positions())[frame.f_lasti // 2]
        return Call(code, kind, line or frame.f_lineno, column, (first, start))
    return Call(code, kind, frame.f_lineno, None)

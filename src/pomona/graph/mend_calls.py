"""Sizes that a module's code works out by itself, `C // self.num_heads` or a literal, where no attribute can say them.

The small model runs beside the graph: whatever a call in its code asks for is compared with what the rewritten program would
say there, and put right on the spot, so that one run finds every such call.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from fractions import Fraction
from functools import partial
from itertools import pairwise
from math import isclose
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from pomona.graph.blocks import renamed
from pomona.graph.export import export
from pomona.graph.expr import Expr, Keep, size
from pomona.graph.graph import Graph
from pomona.graph.nodes import every_node, frames, name_of, shape
from pomona.graph.rewrite import resized
from pomona.vocabulary import Plan

_TORCH = str(Path(torch.__file__).parent)
_ENTRY = re.compile(r'File "([^"]+)", line (\d+)')
# What a call is, by the name of the function or of the op that it becomes.
_KINDS = {
    "shape": ("view", "reshape", "_unsafe_view", "new_zeros", "new_ones"),
    "made": ("zeros", "ones"),
    "normed": ("layer_norm", "rms_norm", "group_norm"),
    "expand": ("expand", "broadcast_to"),
    "split": ("split", "split_with_sizes"),
    "times": ("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply"),
    "over": ("div", "div_", "__truediv__", "__itruediv__", "true_divide"),
    "attention": ("scaled_dot_product_attention",),
}
KIND = {name: kind for kind, names in _KINDS.items() for name in names}
Right = tuple[Fraction | float, ...]  # by what each size that the call passes must be multiplied; a scale as it must be


@dataclass(frozen=True)
class Call:
    """A call in the code of a function: where it ends, as `co_positions` counts lines and columns (column None: unknown).

    Where a method called a function that made the call, `through` has the calls on the way, the method's first, with what each
    of them called (None where that cannot be found by its name).
    """

    code: CodeType
    kind: str
    line: int
    column: int | None
    through: tuple[tuple[Call, FunctionType | None], ...] = ()


class Beside(TorchFunctionMode):
    """Within it, calls of the modules' own code get the sizes that the graph says; `calls` has those that asked for others."""

    def __init__(self, model: nn.Module, whole: nn.Module, graph: Graph, keep: Keep, plan: Plan) -> None:
        super().__init__()
        self.names = {id(module): name for name, module in model.named_modules()}
        self.nodes = _nodes(whole, graph, plan)
        self.graph, self.length = graph, partial(_length, keep)
        self.calls: dict[str, dict[Call, Right]] = {}  # by module of the small model
        self.counts: dict[Any, int] = {}

    def __enter__(self) -> Beside:
        """Start from the first call."""
        self.calls, self.counts = {}, {}
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call, put right where it is not."""
        kwargs = dict(kwargs or {})
        kind = KIND.get(getattr(func, "__name__", ""))
        if kind is None or (frame := _caller()) is None:
            return func(*args, **kwargs)
        way = self._way(frame)
        module = self.names.get(id(way[0].f_locals.get("self")))
        key = (module, *_place(frame), kind)
        number = self.counts[key] = self.counts.get(key, -1) + 1
        nodes = self.nodes.get(key, ())
        if module is None or number >= len(nodes):
            return func(*args, **kwargs)
        put_right = _KINDS_OF_CALLS[kind](resized(nodes[number], self.graph, self.length), args, kwargs)
        if put_right is None:
            return func(*args, **kwargs)
        passed = args[1] if len(args) > 1 else None
        args, kwargs, right = put_right
        pieces = kind == "split" and type(passed) is int and len(right) > 1
        self.calls.setdefault(module, {}).setdefault(_call(way, "pieces" if pieces else kind), right)
        return func(*args, **kwargs)

    def _way(self, frame: FrameType) -> list[FrameType]:
        """The method of a module that is running, then the functions that it called, down to this frame; or this frame alone."""
        way, outer = [frame], frame.f_back
        while outer is not None and id(way[0].f_locals.get("self")) not in self.names:
            if not outer.f_code.co_filename.startswith(_TORCH):
                way.insert(0, outer)
            outer = outer.f_back
        return way if id(way[0].f_locals.get("self")) in self.names else [frame]


def _length(keep: Keep, e: Expr) -> int:
    return size(e, keep)


def _nodes(whole: nn.Module, graph: Graph, plan: Plan) -> dict[Any, list[fx.Node]]:
    """Nodes by (module of the small model, file, line, kind of call), in order."""
    found: dict[Any, list[fx.Node]] = {}
    for n, traced in _traced_again(whole, graph):
        kind, stack = KIND.get(name_of(n)), frames(n)
        entries = [e for e in _ENTRY.findall(traced.meta.get("stack_trace") or "") if not e[0].startswith(_TORCH)]
        if kind is not None and stack and entries:
            file, line = entries[-1]
            path = renamed(stack[-1], plan) if stack[-1] else ""
            found.setdefault((path, file, int(line), kind), []).append(n)
    return found


def _traced_again(whole: nn.Module, graph: Graph) -> Iterator[tuple[fx.Node, fx.Node]]:
    """The graph's nodes with those of a second trace, which know their lines.

    A forward pass may leave something behind (a table made on the first call), so the two are aligned module by module.
    """
    args, kwargs = graph.program.example_inputs
    first, second = (_by_module(program) for program in (graph.program, export(whole, args, kwargs, stacks=True)))
    for path, nodes in first.items():
        there = second.get(path, [])
        alike = SequenceMatcher(None, [(name_of(n), shape(n)) for n in nodes], [(name_of(n), shape(n)) for n in there], False)
        for start, other, length in alike.get_matching_blocks():
            yield from zip(nodes[start : start + length], there[other : other + length], strict=True)


def _by_module(program: ExportedProgram) -> dict[str, list[fx.Node]]:
    found: dict[str, list[fx.Node]] = {}
    for n in every_node(program):
        if n.op == "call_function" and (stack := frames(n)):
            found.setdefault(stack[-1], []).append(n)
    return found


def _caller() -> FrameType | None:
    """The innermost frame outside torch and this file."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    return frame


def _place(frame: FrameType) -> tuple[str, int]:
    """File and line as a trace tells them: those of the `forward` that is running, not of what it calls."""
    outer: FrameType | None = frame
    while outer is not None and outer.f_code.co_name != "forward":
        outer = outer.f_back
    named = outer or frame
    return named.f_code.co_filename, named.f_lineno


def _call(way: Sequence[FrameType], kind: str) -> Call:
    through = tuple((_at(outer, "function"), _function(inner)) for outer, inner in pairwise(way))
    return replace(_at(way[-1], kind), through=through)


def _function(frame: FrameType) -> FunctionType | None:
    """The function that is running in a frame, if it stands in its file under its name."""
    found = frame.f_globals.get(frame.f_code.co_name)
    return found if isinstance(found, FunctionType) and found.__code__ is frame.f_code else None


def _at(frame: FrameType, kind: str) -> Call:
    code = frame.f_code
    if sys.version_info >= (3, 11):
        _, line, _, column = list(code.co_positions())[frame.f_lasti // 2]
        return Call(code, kind, line or frame.f_lineno, column)
    return Call(code, kind, frame.f_lineno, None)


def _factors(passed: Sequence[Any], right: Sequence[Any]) -> Right | None:
    """By what the passed sizes must be multiplied; None where they are right, or cannot be compared."""
    if len(passed) != len(right) or not all(type(p) is int for p in passed):
        return None
    pairs = [(1, 1) if p == -1 else (r, p) for p, r in zip(passed, right, strict=True)]
    if all(r == p for r, p in pairs) or any(p == 0 for _, p in pairs):
        return None
    return tuple(Fraction(r, p) for r, p in pairs)


PutRight = Callable[[Any, Any, dict[str, Any]], "tuple[Any, dict[str, Any], Right] | None"]


def _shape(wanted: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Right] | None:
    """`x.view(2, 3)`, `x.view((2, 3))`."""
    if kwargs or len(args) < 2:
        return None
    passed = list(args[1:]) if type(args[1]) is int else list(args[1]) if isinstance(args[1], (tuple, list)) else []
    right = list(wanted[1][1])
    factors = _factors(passed, right)
    if factors is None:
        return None
    return (args[0], [p if p == -1 else r for p, r in zip(passed, right, strict=True)]), {}, factors


def _made(wanted: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Right] | None:
    """`torch.zeros(2, 3)`, `torch.zeros((2, 3))`."""
    put_right = _shape((None, (None, wanted[1][0]), {}), (None, *args), {}) if args else None
    return None if put_right is None else (put_right[0][1:], kwargs, put_right[2])


def _split(wanted: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Right] | None:
    """`x.split(sizes, dim)`, with one size or one each; where one would do no more, there is one factor for each piece."""
    if len(args) < 2:
        return None
    passed, right = args[1], wanted[1][1]
    if type(passed) is not int:
        factors = _factors(list(passed), right)
        return None if factors is None else ((args[0], right, *args[2:]), kwargs, factors)
    whole = right if type(right) is int else right[0]
    if type(right) is int or (len(set(right[:-1])) < 2 and right[-1] <= right[0]):
        factors = _factors([passed], [whole])
        return None if factors is None else ((args[0], whole, *args[2:]), kwargs, factors)
    return (args[0], right, *args[2:]), kwargs, tuple(Fraction(r, passed) for r in right)


def _scaled(wanted: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Right] | None:
    """`x * scale`, `x / scale`: one number and one tensor."""
    given = wanted[1]
    if len(args) != 2 or len(given) != 2 or kwargs:
        return None
    passed, right = ([a for a in pair if isinstance(a, (int, float))] for pair in (args, given))
    if len(passed) != 1 or len(right) != 1 or isclose(passed[0], right[0], rel_tol=1e-12) or not passed[0]:
        return None
    return tuple(right[0] if isinstance(a, (int, float)) else a for a in args), {}, (right[0] / passed[0],)


def _attention(wanted: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Right] | None:
    """Attention that takes its scale from the width that it meets is told the scale of the unpruned heads."""
    right = wanted[2].get("scale")
    if right is None or kwargs.get("scale") is not None or isclose(args[0].shape[-1] ** -0.5, right, rel_tol=1e-12):
        return None
    return args, {**kwargs, "scale": right}, (right,)


_KINDS_OF_CALLS: Mapping[str, PutRight] = {
    "shape": _shape,
    "expand": _shape,
    "split": _split,
    "made": _made,
    "normed": _split,
    "times": _scaled,
    "over": _scaled,
    "attention": _attention,
}

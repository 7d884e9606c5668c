"""Sizes that a module's code works out by itself, `C // self.num_heads` or a literal, where no attribute can say them.

The small model runs beside the graph: whatever a call in its code asks for is compared with what the rewritten program would
say there, and put right on the spot, so that one run finds every such call.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from pomona.graph.blocks import renamed
from pomona.graph.export import export
from pomona.graph.expr import Expr, Keep, size
from pomona.graph.graph import Graph
from pomona.graph.mend_kinds import KIND, Right, Wanted, merged, put_right
from pomona.graph.mend_places import TORCH, Call, Way, caller, forward_of, way_to
from pomona.graph.mend_slices import is_this, parts_of, put_right_slice, sliced
from pomona.graph.nodes import every_node, frames, name_of, shape
from pomona.graph.rewrite import resized
from pomona.vocabulary import Plan

_ENTRY = re.compile(r'File "([^"]+)", line (\d+)')
Key: TypeAlias = tuple[str, str, int, str]  # a module of the small model, file, line, kind of call


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
        place = forward_of(sys._getframe(1), self.names) if kind is not None else None
        if kind is None or place is None or not (way := way_to(caller(sys._getframe(1)), self.names)):
            return func(*args, **kwargs)
        if kind == "slice":
            args = (args[0], self.index(args[0], args[1], (*place, kind), way), *args[2:])
        elif (wanted := self.wanted((*place, kind))) and (better := put_right(kind, (func, args, kwargs), wanted)):
            kind, (func, args, kwargs), right = better
            self.note(kind, way, right)
        return func(*args, **kwargs)

    def index(self, x: Tensor, index: Any, key: Key, way: Way) -> Any:
        """What stands in brackets behind a tensor, with its slices put right."""
        parts = list(parts_of(index))
        factors: list[Any] = [None] * (2 * len(parts))
        for place, dim, source in sliced(index, x.dim()):
            wanted = self.wanted(key, partial(is_this, parts[place], dim)) if parts[place] != slice(None) else None
            if wanted and (better := put_right_slice(parts[place], x.shape[source], wanted)):
                parts[place], factors[2 * place : 2 * place + 2] = better
        if factors == [None] * len(factors):
            return index
        self.note("slice", way, tuple(factors))
        return tuple(parts) if isinstance(index, tuple) else parts[0]

    def wanted(self, key: Key, fits: Callable[[fx.Node], bool] = lambda n: True) -> Wanted | None:
        """The next op of the program at this place, at its new sizes; None, and it stays the next one, where it does not fit."""
        number, nodes = self.counts.get(key, 0), self.nodes.get(key, ())
        if number >= len(nodes) or not fits(nodes[number]):
            return None
        self.counts[key] = number + 1
        return resized(nodes[number], self.graph, self.length)

    def note(self, kind: str, way: Way, right: Right) -> None:
        """Write down what a call needs."""
        call, known = way.call(kind), self.calls.setdefault(self.names[id(way.module)], {})
        known[call] = merged(known[call], right) if call in known else right


def _length(keep: Keep, e: Expr) -> int:
    return size(e, keep)


def _nodes(whole: nn.Module, graph: Graph, plan: Plan) -> dict[Any, list[fx.Node]]:
    """Nodes by (module of the small model, file, line, kind of call), in order."""
    found: dict[Any, list[fx.Node]] = {}
    for n, traced in _traced_again(whole, graph):
        kind, stack = KIND.get(name_of(n)), frames(n)
        entries = [e for e in _ENTRY.findall(traced.meta.get("stack_trace") or "") if not e[0].startswith(TORCH)]
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

"""What one forward pass calls: the ops of a traced model, each as a call whose widths can vary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from pomona.graph import Graph
from pomona.graph.expr import Atom, Const, Expr, atoms, norm, size
from pomona.graph.facts import Groups
from pomona.graph.nodes import frames, name_of
from pomona.graph.rewrite import resized
from pomona.runtime.made import Made, Shape

Key: TypeAlias = tuple[Any, ...] | int

# Results that share the memory of their input, however it lies: all that they cost is a trip through the dispatcher.
_VIEWS = frozenset((
    "view", "permute", "transpose", "t", "numpy_T", "unsqueeze", "squeeze", "expand", "slice", "select", "split", "chunk",
    "unbind", "split_with_sizes", "detach", "alias", "narrow",
))  # fmt: skip
_FREE = frozenset(("_assert_tensor_metadata", "dropout", "sym_size"))
_MOST = 3  # widths that an op may have and still be measured on a grid of them


@dataclass(frozen=True, eq=False)
class Call:
    """One op of the graph. `variables` are its widths: the distinct lengths of its tensors that pruning can change.

    Where one width is made of another (groups and channels), the axes themselves are the variables. Views have none, and
    ops with more than three of them are `linear`: their time follows their bytes.
    """

    node: fx.Node
    graph: Graph
    variables: tuple[Expr, ...]
    linear: bool

    @cached_property
    def frames(self) -> frozenset[str]:
        """The modules that the op runs in."""
        return frozenset(frames(self.node))

    def widths(self, sizes: Mapping[Atom, int]) -> tuple[int, ...]:
        """The variables when the axes have these sizes."""
        return tuple(size(e, sizes) for e in self.variables)

    @cached_property
    def full(self) -> tuple[int, ...]:
        """The variables of the dense model."""
        return tuple(e.n for e in self.variables)

    def at(self, widths: tuple[int, ...]) -> Made:
        """The op and its arguments at these widths: numbers as they are, tensors as what it takes to make them up."""
        length = self._length(widths)
        target, args, kwargs = resized(self.node, self.graph, length)

        def described(n: fx.Node) -> Any:
            value, dims = n.meta.get("val"), self.graph.values.get(n)
            if not isinstance(value, Tensor):
                return int(value) if isinstance(value, (torch.SymInt, int)) else value
            shape = tuple(map(length, dims)) if isinstance(dims, tuple) else tuple(map(int, value.shape))
            order = sorted(range(value.dim()), key=lambda d: -int(value.stride()[d]))
            return Shape(shape, value.dtype, tuple(order))

        return Made(target, fx.map_arg(args, described), fx.map_arg(kwargs, described))

    def _length(self, widths: tuple[int, ...]) -> Callable[[Expr], int]:
        now = dict(zip(map(_key, self.variables), widths, strict=True))
        free = {e: width for e, width in zip(self.variables, widths, strict=True) if isinstance(e, Atom)}

        def length(e: Expr) -> int:
            known = now.get(_key(e))
            return size(e, free) if known is None else known

        return length


def calls_of(graph: Graph) -> list[Call]:
    """Every op of the forward pass that takes time."""
    timed = (n for n in graph.values if hasattr(n.target, "_schema") and name_of(n) not in _FREE)
    return [_call(n, graph) for n in timed]


def _call(node: fx.Node, graph: Graph) -> Call:
    if name_of(node) in _VIEWS:
        return Call(node, graph, (), False)
    distinct = {_key(e): e for e in _lengths(node, graph) if atoms(e)}
    variables = tuple(distinct.values())
    if len(atoms(*variables)) < sum(len(atoms(e)) for e in variables):
        variables = tuple(atoms(*variables))
    return Call(node, graph, variables, len(variables) > _MOST)


def _lengths(node: fx.Node, graph: Graph) -> Iterator[Expr]:
    fact = graph.facts.get(node)
    if isinstance(fact, Groups):
        yield norm(fact.groups)
    for n in (*node.all_input_nodes, node):
        yield from map(norm, _flat(graph.values.get(n)))


def _flat(value: Any) -> Iterable[Expr]:
    if isinstance(value, tuple):
        return value
    return [e for dims in value or () if isinstance(dims, tuple) for e in dims]


def _key(e: Expr) -> Key:
    """Equal for expressions that are the same function of the axes."""
    e = norm(e)
    if isinstance(e, Const):
        return e.n
    if isinstance(e, Atom):
        return ("axis", id(e))
    return (type(e).__name__, *map(_key, e.parts))

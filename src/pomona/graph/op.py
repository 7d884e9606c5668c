"""What a rule sees of one op, what it may do, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import Node

from pomona.graph.algebra import Misfit, unify
from pomona.graph.expr import Const, Dims, Expr, norm
from pomona.graph.facts import Fact, Use, Work
from pomona.vocabulary import Convolution, WeightKind

Value: TypeAlias = Dims | list[Any] | None  # a tensor's dims; a list of values for an op with several outputs; None otherwise


@dataclass(eq=False)
class Record:
    """What the walk has found so far. `sources` tells which parameter a node is, and in which order its dimensions come."""

    values: dict[Node, Value] = field(default_factory=dict)
    facts: dict[Node, Fact] = field(default_factory=dict)
    normed: dict[Node, tuple[Expr, ...]] = field(default_factory=dict)
    work: list[tuple[Node, Work]] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    sources: dict[Node, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    unknown: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Op:
    """One op under its rule: the dimensions of its inputs, its arguments by name, and the traced output `value`."""

    node: Node
    name: str
    args: Mapping[str, Any]
    value: Any
    record: Record

    def has(self, argument: str) -> bool:
        """Whether this argument is there and is a tensor."""
        given = self.args.get(argument)
        return isinstance(given, Node) and isinstance(self.record.values.get(given), tuple)

    def dims(self, argument: str | Node) -> Dims:
        """The dimensions of an input, by the argument's name; raises Misfit when it is no tensor."""
        node = self.args.get(argument) if isinstance(argument, str) else argument
        found = self.record.values.get(node) if isinstance(node, Node) else None
        if not isinstance(found, tuple):
            raise Misfit(f"{self.name} has no tensor '{argument}'")
        return tuple(norm(e) for e in found)

    @property
    def input(self) -> Dims:
        """The dimensions of the first argument."""
        return self.dims(self.node.args[0])  # type: ignore[arg-type]

    @property
    def inputs(self) -> list[Dims]:
        """The dimensions of all tensor inputs, in order."""
        values = (self.record.values.get(n) for n in self.node.all_input_nodes)
        return [tuple(norm(e) for e in v) for v in values if isinstance(v, tuple)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The traced shape of the (only) output."""
        if not isinstance(self.value, Tensor):
            raise Misfit(f"{self.name} does not return one tensor")
        return tuple(self.value.shape)

    def dim(self, rank: int, argument: str = "dim", default: int = 0) -> int:
        """A dimension argument, counted from the left."""
        given = self.args.get(argument)
        return (default if given is None else int(given)) % max(rank, 1)

    def note(self, fact: Fact) -> None:
        """Tell surgery."""
        self.record.facts[self.node] = fact

    def normalises(self, over: Iterable[Expr]) -> None:
        """Removing units of these and zeroing them are different functions."""
        self.record.normed[self.node] = self.record.normed.get(self.node, ()) + tuple(over)

    def works(self, factors: Iterable[Expr], tensor: str | None = None) -> None:
        """Count the product of the factors as multiply-accumulates."""
        self.record.work.append((self.node, Work(tuple(factors), tensor)))

    def carries(self, order: Sequence[int] | None = None) -> None:
        """The output is the first input itself, with its dimensions in this order."""
        source = self.record.sources.get(self.node.args[0])  # type: ignore[arg-type]
        if source is not None:
            name, dims = source
            self.record.sources[self.node] = (name, dims if order is None else tuple(dims[i] for i in order))

    def reads(
        self, node: Any, kind: WeightKind, out_dim: int | None = None, in_dim: int | None = None, conv: Convolution | None = None
    ) -> str | None:
        """Note that the op reads this input as a weight; returns the parameter's name, None when it is an activation."""
        source = self.record.sources.get(node) if isinstance(node, Node) else None
        if source is None:
            return None
        name, dims = source
        pick = [None if d is None else dims[d] for d in (out_dim, in_dim)]
        self.record.uses.append(Use(name, kind, pick[0], pick[1], conv))
        return name


Rule: TypeAlias = Callable[[Op], "Dims | list[Any]"]
_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these ATen ops, named without namespace and overload."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = function
        return function

    return register


def rule_of(target: Any, name: str) -> Rule | None:
    """The rule of an op; ops that ATen tags as pointwise need no entry of their own."""
    found = _RULES.get(name)
    if found is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        found = _RULES["add"]
    return found


def broadcast(several: Sequence[Dims]) -> Dims:
    """The dimensions after broadcasting: ones give way, everything else is unified."""
    rank = max((len(d) for d in several), default=0)
    out: list[Expr] = []
    for back in range(rank, 0, -1):
        wide = [e for d in several if len(d) >= back and (e := d[-back]).n != 1]
        for e in wide[1:]:
            unify(wide[0], e)
        out.append(norm(wide[0]) if wide else Const(1))
    return tuple(out)


def fixed(sizes: Iterable[int], why: str) -> Dims:
    """Dimensions that cannot change."""
    return tuple(Const(n, why) for n in sizes)

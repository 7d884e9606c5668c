"""What a rule sees of one op, what it may do, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx import Node

from pomona.graph.algebra import Misfit, unify
from pomona.graph.expr import Atom, Const, Dims, Expr, Product, Sum, norm
from pomona.graph.facts import Fact, Numbers, Use, Work
from pomona.graph.nodes import traced
from pomona.vocabulary.sites import Convolution, WeightKind

Value: TypeAlias = Dims | list[Dims | None] | None  # a tensor's dims; a list of them for several outputs; None otherwise
Result: TypeAlias = Sequence[Any]  # what a rule returns: the dimensions of the output, or a sequence of those


@dataclass(eq=False)
class Record:
    """What the walk has found so far.

    `sources` tells which parameter a node is, and in which order its dimensions come, `pieces` which of those are only a part
    of it; `live` holds what depends on the inputs of the model. `numbers` are the nodes whose values are positions along a
    dimension, `asked` the ops that took that into account, `floors` how many positions a dimension must keep, and `strides`
    of what its length must be a multiple. `literals` are the tensors of numbers that the code itself writes down.
    `even` has pairs of dimensions that one number of a layer says.
    """

    values: dict[Node, Value] = field(default_factory=dict)
    facts: dict[Node, Fact] = field(default_factory=dict)
    normed: dict[Node, tuple[Expr, ...]] = field(default_factory=dict)
    contracted: dict[Node, tuple[Expr, ...]] = field(default_factory=dict)
    work: list[tuple[Node, Work]] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    sources: dict[Node, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    pieces: set[Node] = field(default_factory=set)
    live: set[Node] = field(default_factory=set)
    numbers: dict[Node, Any] = field(default_factory=dict)  # an expression, or one for each of several outputs
    asked: set[tuple[Node, Node]] = field(default_factory=set)
    floors: list[tuple[Expr, int]] = field(default_factory=list)
    strides: list[tuple[Expr, int]] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    even: list[tuple[Expr, Expr]] = field(default_factory=list)
    literals: dict[Node, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Op:
    """One op under its rule: the dimensions of its inputs, its arguments by name, and the traced output `value`."""

    node: Node
    name: str
    args: Mapping[str, Any]
    value: Any
    record: Record

    def maybe(self, argument: Any) -> list[Expr] | None:
        """The dimensions of an input, by the argument's name or as a node; None when it is no tensor."""
        node = self.args.get(argument) if isinstance(argument, str) else argument
        found = self.record.values.get(node) if isinstance(node, Node) else None
        return [norm(e) for e in found] if isinstance(found, tuple) else None

    def dims(self, argument: Any) -> list[Expr]:
        """The same; raises Misfit when it is no tensor."""
        found = self.maybe(argument)
        if found is None:
            raise Misfit(f"{self.name} has no tensor '{argument}'")
        return found

    @property
    def input(self) -> list[Expr]:
        """The dimensions of the first argument."""
        return self.dims(self.node.args[0])

    @property
    def inputs(self) -> list[list[Expr]]:
        """The dimensions of all tensor inputs, in order."""
        return [d for n in self.node.all_input_nodes if (d := self.maybe(n)) is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        """The traced shape of the (only) output."""
        if not isinstance(self.value, Tensor):
            raise Misfit(f"{self.name} does not return one tensor")
        return tuple(self.value.shape)

    def axis(self, dims: Sequence[Expr], argument: str = "dim") -> int:
        """A dimension argument (default 0), counted from the left."""
        return int(self.args.get(argument) or 0) % max(len(dims), 1)

    def tell(self, fact: Fact) -> None:
        """Tell surgery."""
        self.record.facts[self.node] = fact

    def number(self, argument: Any) -> Expr | None:
        """The dimension along which the values of an input are positions; None where they are something else."""
        node = self.args.get(argument) if isinstance(argument, str) else argument
        if not isinstance(node, Node) or not isinstance(found := self.record.numbers.get(node), (Const, Atom, Product, Sum)):
            return None
        self.record.asked.add((self.node, node))
        return norm(found)

    def literal(self, argument: Any) -> list[int] | None:
        """The whole numbers of an input that the code writes down (`x[..., [-2], :]`); None where it is something else."""
        node = self.args.get(argument) if isinstance(argument, str) else argument
        found = self.record.literals.get(node) if isinstance(node, Node) else None
        return found.flatten().tolist() if found is not None and found.dtype == torch.int64 and not found.is_meta else None

    def numbers(self, *along: Expr | None) -> None:
        """The values of the outputs are positions along these dimensions; None for an output that is something else."""
        self.record.numbers[self.node] = list(along) if len(along) > 1 else along[0]
        self.tell(Numbers(along))

    def needs(self, e: Expr, least: int) -> None:
        """So many positions of a dimension must stay."""
        self.record.floors.append((e, least))

    def aligns(self, over: Iterable[Expr], multiple: int) -> None:
        """The kernel takes lengths of these only where they are multiples."""
        self.record.strides += [(e, multiple) for e in over]

    def normalises(self, over: Iterable[Expr]) -> None:
        """Removing units of these and zeroing them are different functions."""
        self.record.normed[self.node] = self.record.normed.get(self.node, ()) + tuple(over)

    def contracts(self, over: Iterable[Expr]) -> None:
        """The op sums over these."""
        self.record.contracted[self.node] = tuple(over)

    def evens(self, one: Expr, other: Expr) -> None:
        """One number of the layer says both lengths, although their units have nothing to do with each other."""
        self.record.even.append((one, other))

    def works(self, factors: Iterable[Expr], tensor: str | None = None) -> None:
        """Count the product of the factors as multiply-accumulates."""
        self.record.work.append((self.node, Work(tuple(factors), tensor)))

    def carries(self, order: Sequence[int] | None = None) -> None:
        """The output is the first input itself, with its dimensions in this order."""
        first: Any = self.node.args[0]
        if first in self.record.literals and order is None:
            self.record.literals[self.node] = self.record.literals[first]
        source = self.record.sources.get(first)
        if source is not None:
            name, dims = source
            self.record.sources[self.node] = (name, dims if order is None else tuple(dims[i] for i in order))
            if self.node.args[0] in self.record.pieces:
                self.record.pieces.add(self.node)

    def parts(self) -> None:
        """The output is a part of the first input, or several are."""
        self.carries()
        if self.node in self.record.sources:
            self.record.pieces.add(self.node)

    def reads(
        self,
        node: Any,
        kind: WeightKind,
        out_dim: int | None = None,
        in_dim: int | None = None,
        conv: Convolution | None = None,
        bias: str | None = None,
    ) -> str | None:
        """Note that the op reads this input as a weight; returns the parameter's name, None when it is an activation.

        `bias` is the parameter that it adds to the product.

        A parameter that is read in parts has dimensions like a weight, but it is none: each part has an input of its own.
        """
        source = self._source(node) if isinstance(node, Node) else None
        if source is None:
            return None
        name, dims, part = source
        pick = [None if d is None else dims[d] for d in (out_dim, in_dim)]
        self.record.uses.append(Use(name, "other" if part else kind, pick[0], pick[1], conv, None if part else bias))
        return name

    def _source(self, node: Node) -> tuple[str, tuple[int, ...], bool] | None:
        """The parameter that a node is or is made from, its dimensions, and whether the node is only a part of it.

        Standardised and rescaled weights are made from one of their own shape.
        """
        made, front = getattr(traced(node), "shape", None), [node] if node not in self.record.live else []
        while front:
            found = {
                (*self.record.sources[n], n in self.record.pieces)
                for n in front
                if n in self.record.sources and traced(n).shape == made
            }
            if found:
                return found.pop() if len(found) == 1 else None
            front = [m for n in front for m in n.all_input_nodes if n not in self.record.sources]
        return None


Rule: TypeAlias = Callable[[Op], Result]
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


def broadcast(several: Sequence[Sequence[Expr]]) -> list[Expr]:
    """The dimensions after broadcasting: ones give way, everything else is unified."""
    rank = max((len(d) for d in several), default=0)
    out: list[Expr] = []
    for back in range(rank, 0, -1):
        wide = [e for d in several if len(d) >= back and (e := d[-back]).n != 1]
        for e in wide[1:]:
            unify(wide[0], e)
        out.append(norm(wide[0]) if wide else Const(1))
    return out

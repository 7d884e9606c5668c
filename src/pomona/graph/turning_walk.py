"""The walk over a program that finds, op by op, what stands on an axis: vectors as they are, scaled ones, squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import fx

from pomona.graph.expr import Atom, Dims, atoms, norm
from pomona.graph.nodes import frames, name_of
from pomona.graph.op import Record

Where: TypeAlias = tuple[str, int]  # a dimension of a tensor

STREAM, SCALED, SQUARE = "stream", "scaled", "square"
ENTRIES = "it treats entries one by one"


@dataclass(frozen=True)
class Value:
    """What a node is on an axis: a vector of the stream, one that was scaled for its readers, or its squares."""

    kind: str = STREAM
    scale: str | None = None
    shift: str | None = None


class Stiff(Exception):
    """An orthogonal matrix does not pass here; says what is in the way."""


class Found:
    """What the walk knows of one axis."""

    def __init__(self) -> None:
        self.stiff: str | None = None
        self.centred = False
        self.writers: dict[Where, None] = {}
        self.readers: dict[Where, Value] = {}

    def read(self, where: Where, value: Value) -> None:
        """Note a reader and what it reads; raises Stiff where it reads something else elsewhere."""
        if self.readers.setdefault(where, value) != value:
            raise Stiff(f"{where[0]} reads it behind two scales")


class Walk:
    """One pass over the ops, in their order."""

    def __init__(self, record: Record, dims: Mapping[str, Dims], found: Mapping[Atom, Found], handlers: Handlers) -> None:
        self.record, self.dims, self.found, self.handlers = record, dims, found, handlers
        self.values: dict[tuple[fx.Node, Atom], Value] = {}

    def go(self) -> None:
        """Visit every op; what lies in the way of an axis is noted at the axis."""
        for n in self.record.values:
            if n.op != "call_function" or n in self.record.sources:
                continue
            for atom in self._touched(n):
                self._step(n, atom)
        for out in (n for n in self.record.values if any(user.op == "output" for user in n.users)):
            for atom in self.own(out):
                self.found[atom].stiff = self.found[atom].stiff or "the model returns it"

    def _step(self, n: fx.Node, atom: Atom) -> None:
        found, name = self.found[atom], name_of(n)
        if found.stiff is not None:
            return
        try:
            if name not in self.handlers:
                raise Stiff(ENTRIES)
            made = self.handlers[name](self, n, atom)
            if made is not None:
                self.place(n, atom)
                self.values[n, atom] = made
            elif atom in self.own(n):
                raise Stiff("it comes out of it")
        # As with the rules of ops: other arguments or fewer dimensions than the handler knows of.
        except (Stiff, IndexError, KeyError, TypeError, ValueError) as why:
            where = (frames(n) or [""])[-1]
            found.stiff = f"op {name.lstrip('_')}{f' at {where}' if where else ''}: {why}"

    def own(self, n: fx.Node) -> list[Atom]:
        """The axes of a node's outputs that are asked about."""
        given: Any = self.record.values.get(n) or ()
        flat = [e for one in given for e in (one if isinstance(one, (list, tuple)) else (one,)) if e is not None]
        return [atom for atom in atoms(*map(norm, flat)) if atom in self.found]

    def _touched(self, n: fx.Node) -> list[Atom]:
        return list(dict.fromkeys(atom for v in (n, *n.all_input_nodes) for atom in self.own(v)))

    def inside(self, n: fx.Node, atom: Atom) -> list[fx.Node]:
        """The inputs that have the axis."""
        return [v for v in n.all_input_nodes if atom in self.own(v)]

    def place(self, n: fx.Node, atom: Atom) -> int:
        """The one dimension of a tensor that is the axis, counted from the end."""
        given = self.record.values.get(n)
        here = [norm(e) for e in given] if isinstance(given, tuple) else []
        found = [i - len(here) for i, e in enumerate(here) if e is atom]
        if len(found) != 1 or any(atom in atoms(e) for e in here if e is not atom):
            raise Stiff("the axis is mixed with others")
        return found[0]

    def parameter(self, n: Any, atom: Atom) -> Where | None:
        """The tensor that a node is, or a part of, and its dimension that is the axis; None for what is computed."""
        if n not in self.record.sources:
            return None
        name, order = self.record.sources[n]
        dim = order[self.place(n, atom)] if len(order) == len(self.record.values[n] or ()) else -1
        if dim < 0 or norm(self.dims[name][dim]) is not atom:
            raise Stiff(f"a part of {name} takes part")
        return name, dim

    def value(self, n: fx.Node, atom: Atom) -> Value:
        """What an input is; a parameter becomes a vector of the stream and counts as a writer."""
        if (n, atom) in self.values:
            return self.values[n, atom]
        self.writes(n, atom)
        return Value()

    def writes(self, n: Any, atom: Atom) -> None:
        """Note that a parameter is added up on the axis; raises Stiff where a node is none."""
        where = self.parameter(n, atom)
        if where is None:
            raise Stiff("a matrix is computed")
        self.found[atom].writers[where] = None

    def stream(self, n: fx.Node, atom: Atom) -> None:
        """Raises where a node is no vector of the stream."""
        if (value := self.value(n, atom)) != Value():
            raise Stiff("what was scaled for its readers goes on" if value.kind == SCALED else "squares go on")


Handler: TypeAlias = Callable[[Walk, fx.Node, Atom], "Value | None"]  # what comes out, None where the axis ends; raises Stiff
Handlers: TypeAlias = Mapping[str, Handler]

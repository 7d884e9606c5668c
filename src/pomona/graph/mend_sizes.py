"""What the numbers that a module's code may have written down have become: old length -> possible new lengths."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import fx, nn

from pomona.graph.blocks import is_list, renamed
from pomona.graph.expr import Atom, Const, Dims, Expr, Keep, Product, norm, product_of, size, sum_of
from pomona.graph.facts import Groups
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks
from pomona.graph.nodes import arguments, frames
from pomona.vocabulary import Plan

Changes = dict[int, dict[int, None]]  # old length -> new lengths, most telling first


@dataclass(frozen=True, eq=False)
class Sizes:
    """By the name of a module in the small model: what lengths became in its frame, its number of groups, the lists in it.

    And the lengths over which it normalises by an op that is told them.
    """

    frames: Mapping[str, Changes] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, list[Shortened]] = field(default_factory=dict)
    called: Collection[str] = ()
    normed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def around(self, path: str) -> Changes:
        """What a module's code meets: its own frame; that of whoever uses it, too, where it is never called itself."""
        found = dict(self.frames.get(path, {}))
        while path and path not in self.called:
            path = path.rpartition(".")[0]
            for old, new in self.frames.get(path, {}).items() if path in self.called else ():
                found[old] = {**found.get(old, {}), **new}
        return found


@dataclass(frozen=True)
class Shortened:
    """A list of blocks that lost some: how many there were, and the places of those that are gone."""

    length: int
    gone: tuple[int, ...]

    @property
    def left(self) -> int:
        """How many there are now."""
        return self.length - len(self.gone)


def sizes(graph: Graph, keep: Keep, plan: Plan, whole: nn.Module) -> Sizes:
    """Lengths of tensors, and of the parts that they are made of, in every module's frame: its own operations first."""
    own: dict[str, list[Dims]] = {}
    below: dict[str, list[Dims]] = {}
    groups: dict[str, int] = {}
    normed: dict[str, tuple[int, ...]] = {}
    called = set()
    first = _first_names(whole)
    for name, dims in graph.dims.items():
        _add(own, renamed(name, plan), tuple(dims), above=True)
    for n, value in graph.values.items():
        stack = [first.get(path, path) for path in frames(n)]
        for number, path in enumerate(reversed(stack)):
            there = renamed(path, plan) if path else ""
            if there is not None:
                called.add(there)
                (below if number else own).setdefault(there, []).extend(_seen(n, graph, value))
        if stack and isinstance(fact := graph.facts.get(n), Groups):
            groups[renamed(stack[-1], plan) or ""] = size(fact.groups, keep)
        if stack and isinstance(value, tuple) and (over := arguments(n).get("normalized_shape")):
            normed[renamed(stack[-1], plan) or ""] = tuple(size(e, keep) for e in value[-len(over) :])
    found = {path: _changes([*own.get(path, []), *below.get(path, [])], keep) for path in {**own, **below}}
    return Sizes(found, groups, _lists(plan, whole), called, normed)


def _first_names(whole: nn.Module) -> dict[str, str]:
    """Every name of a module that is shared -> the one under which it comes first."""
    named = {id(module): path for path, module in whole.named_modules()}
    return {path: named[id(module)] for path, module in whole.named_modules(remove_duplicate=False)}


def _add(into: dict[str, list[Dims]], name: str | None, dims: Dims, above: bool) -> None:
    if name is not None:
        into.setdefault(name.rpartition(".")[0] if above else name, []).append(dims)


def _seen(n: fx.Node, graph: Graph, value: object) -> Iterator[Dims]:
    yield from _dims(value)
    for source in n.all_input_nodes:
        yield from _dims(graph.values.get(source))


def _dims(value: object) -> Iterator[Dims]:
    """The dimensions of a tensor, or of each of several."""
    if isinstance(value, tuple):
        yield value
    for part in value if isinstance(value, list) else ():
        yield from _dims(part)


def _changes(every: Iterable[Dims], keep: Keep) -> Changes:
    found: Changes = {}
    done: set[int] = set()
    once = {id(e): e for dims in every for e in dims}  # neighbouring operations see the same tensors
    for e in map(norm, once.values()):
        if id(e) not in done:
            done.add(id(e))
            for part in _parts(e):
                found.setdefault(part.n, {})[size(part, keep)] = None
    return found


def _parts(e: Expr) -> Iterator[Expr]:
    """An expression, the runs of neighbours that it is made of, and theirs."""
    yield e
    if isinstance(e, (Const, Atom)):
        return
    count = len(e.parts)
    join = product_of if isinstance(e, Product) else sum_of
    for start in range(count):
        for stop in range(start + 2, count + (start > 0)) if count <= 8 else ():
            yield join(e.parts[start:stop])
    for part in e.parts:
        yield from _parts(part)


def _lists(plan: Plan, whole: nn.Module) -> dict[str, list[Shortened]]:
    """Containers that lost blocks, by the modules around them: whoever holds a list may count it."""
    gone: dict[str, list[str]] = {}
    for block in dead_blocks(plan):
        container, _, child = block.rpartition(".")
        gone.setdefault(container, []).append(child)
    found: dict[str, list[Shortened]] = {}
    for container, children in gone.items():
        module = whole.get_submodule(container)
        if not is_list(module):
            continue
        order = list(module._modules)
        steps = container.split(".")
        for depth in range(len(steps)):
            around = renamed(".".join(steps[:depth]), plan) if depth else ""
            if around is not None:
                found.setdefault(around, []).append(Shortened(len(order), tuple(order.index(c) for c in children)))
    return found

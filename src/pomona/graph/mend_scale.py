"""Attention that takes its scale from the width of its heads: the scale of the unpruned heads goes into the queries.

Code that divides scores by the root of the head width it meets divides by less in the small model; but removing a dimension
must not make attention sharper. So the weights that write the queries are multiplied by sqrt(new width / old width).
`scaled_dot_product_attention` without a scale always does so; whether written-out attention does is found by trial.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import sqrt

import torch
from torch import Tensor, fx, nn

from pomona.graph.blocks import renamed
from pomona.graph.expr import Expr, Keep, norm, size, take
from pomona.graph.graph import Graph
from pomona.graph.homogeneous import Entries, Proportions
from pomona.graph.mend_slots import role
from pomona.graph.nodes import arguments, frames, name_of
from pomona.vocabulary import Plan

Scales = dict[str, Tensor]  # tensor -> float64 factor of each of its old entries


class Unscalable(Exception):
    """The queries of some attention are not written by weights of their own."""


@dataclass(frozen=True)
class _Product:
    """One product of queries and keys, and what must not grow with them; `factor` is what the queries lack.

    `written_out`: it is not one op without a scale, so the code may take its scale from anywhere.
    """

    node: fx.Node
    sides: tuple[fx.Node, fx.Node]
    others: tuple[fx.Node, ...]
    factor: float
    written_out: bool


def scales(graph: Graph, keep: Keep, written_out: Collection[str] = ()) -> Scales:
    """By what the weights that write queries must be multiplied; empty where no head loses width.

    `written_out`: roles of modules where attention that is not one op without a scale is meant as well. Raises Unscalable where
    no weights will do.
    """
    products = [p for p in _products(graph, keep) if not p.written_out or _role(p) in written_out]
    found: Scales = {}
    if not products:
        return found
    proportions = Proportions(graph.program)
    still: Entries = {}
    for product in products:
        query, key = (_canonical(proportions.entries(n), graph) for n in product.sides)
        fixed = [_canonical(proportions.entries(n), graph) for n in product.others]
        grown = {name: found[name] != 1 for name in key or {} if name in found}
        # What was decided for another product that reads the same weights holds; otherwise the queries grow.
        grows, stays = (key, query) if _meet(query, still) or _meet(key, grown) else (query, key)
        if grows is None or _meet(grows, still) or any(_meet(grows, e or {}) for e in (stays, *fixed)):
            raise Unscalable(f"{product.node.name} takes its scale from the head width, and no weights write its queries alone")
        for name, mask in grows.items():
            there = found.get(name, torch.ones((), dtype=torch.float64))
            if bool((mask & (there != 1)).any()) and bool((mask & (there != product.factor)).any()):
                raise Unscalable(f"{product.node.name} shares its queries with attention of another width")
            found[name] = torch.where(mask, product.factor, there)
        for name, mask in (e for entries in (stays, *fixed) for e in (entries or {}).items()):
            still[name] = still[name] | mask if name in still else mask
    return {name: factors.expand([e.n for e in graph.dims[name]]) for name, factors in found.items()}


def widths(graph: Graph, keep: Keep, plan: Plan) -> dict[str, int]:
    """By the names that they have in the small model: modules where a head loses width, and how wide it was."""
    found = {}
    for product in _products(graph, keep):
        path, dims = (frames(product.node) or [""])[-1], graph.values[product.sides[0]]
        if isinstance(dims, tuple) and (name := renamed(path, plan) if path else path) is not None:
            found[name] = norm(dims[-1]).n
    return found


def _role(product: _Product) -> str:
    """The role of the module where a product is made."""
    return role((frames(product.node) or [""])[-1])


def _products(graph: Graph, keep: Keep) -> Iterator[_Product]:
    """Products of activations over a width that shrinks."""
    for n in graph.values:
        name = name_of(n)
        others: tuple[fx.Node, ...] = ()
        if name == "scaled_dot_product_attention":
            given = arguments(n)
            a, b, others = given["query"], given["key"], (given["value"],)
            written_out = given.get("scale") is not None
        elif name in ("matmul", "bmm", "baddbmm"):
            written_out = True
            *_, a, b = [v for v in n.args if isinstance(v, fx.Node)]
        else:
            continue
        dims = graph.values.get(a)
        if isinstance(dims, tuple) and len(dims) > 2 and (factor := _factor(dims[-1], keep)) != 1:
            yield _Product(n, (a, b), others, factor, written_out)


def _factor(width: Expr, keep: Keep) -> float:
    return sqrt(size(width, keep) / norm(width).n)


def _canonical(entries: Entries | None, graph: Graph) -> Entries | None:
    return None if entries is None else {graph.ties.get(name, name): mask for name, mask in entries.items()}


def _meet(a: Entries | None, b: Entries) -> bool:
    return any(name in b and bool((mask & b[name]).any()) for name, mask in (a or {}).items())


class Fold:
    """The question whether attention that is written out takes its scale from the width it meets, among those of a trial.

    Option 0 is no, option 1 is yes; one answer for all of `parts`, by what else weights are multiplied with option 1.
    """

    role = ""

    def __init__(self, graph: Graph, keep: Keep, plan: Plan, parts: Sequence[Scales], chosen: int = 0) -> None:
        self.graph, self.keep, self.plan = graph, keep, plan
        self.parts, self.chosen = parts, chosen

    @property
    def options(self) -> int:
        """Two, unless there is nothing to ask, or no weights would do."""
        return 2 if self.parts else 1

    @cached_property
    def more(self) -> Scales:
        """All parts together, which have no weight in common."""
        return {name: factors for part in self.parts for name, factors in part.items()}

    def singles(self) -> list[Fold]:
        """One question for each part, as they stand."""
        return [Fold(self.graph, self.keep, self.plan, [part], self.chosen) for part in self.parts]

    def choose(self, option: int, *twins: nn.Module) -> None:
        """Multiply the weights of float64 models, in place, or undo it."""
        for twin in twins if option != self.chosen else ():
            multiply(twin, self.more, self.graph, self.keep, self.plan, undo=option == 0)
        self.chosen = option

    def settle(self, *models: nn.Module) -> None:
        """Multiply the weights of models that have not been asked, in place, as was chosen."""
        for model in models if self.chosen else ():
            multiply(model, self.more, self.graph, self.keep, self.plan)


def asked(graph: Graph, keep: Keep, sure: Scales) -> list[Scales]:
    """By what else weights may have to be multiplied for attention that is written out, in modules of one role or another.

    `sure` is what `scales` says. Roles that read the same weights are one. Those that no weights will do for are left out.
    """
    found: list[tuple[set[str], Scales]] = []
    for name in dict.fromkeys(_role(p) for p in _products(graph, keep) if p.written_out):
        together, more = {name}, _more(graph, keep, sure, {name})
        for other in [other for other in found if more.keys() & other[1].keys()]:
            found.remove(other)
            together |= other[0]
            more = _more(graph, keep, sure, together)
        if more:
            found.append((together, more))
    return [more for _, more in found]


def _more(graph: Graph, keep: Keep, sure: Scales, roles: Collection[str]) -> Scales:
    try:
        every = scales(graph, keep, roles)
    except Unscalable:
        return {}
    ratios = {name: factors / sure.get(name, 1.0) for name, factors in every.items()}
    return {name: ratio for name, ratio in ratios.items() if bool((ratio != 1).any())}


def possible(graph: Graph, keep: Keep) -> list[Scales]:
    """By what the weights of a small model may have been multiplied: for written-out attention nowhere, everywhere, in places."""
    sure = scales(graph, keep)
    parts = asked(graph, keep, sure)
    counts = dict.fromkeys([0, len(parts), *range(1, len(parts))])
    return [joined(sure, chosen) for count in counts for chosen in combinations(parts, count)]


def joined(sure: Scales, parts: Sequence[Scales]) -> Scales:
    """All factors together."""
    more = {name: factors * sure.get(name, 1.0) for part in parts for name, factors in part.items()}
    return {**sure, **more}


@torch.no_grad()
def multiply(small: nn.Module, found: Scales, graph: Graph, keep: Keep, plan: Plan, undo: bool = False) -> None:
    """Multiply (or divide) the weights that write queries by their factors, in place."""
    for tensor, factors in found.items():
        if (name := renamed(tensor, plan)) is not None:
            parameter = small.get_parameter(name)
            kept = take(factors, graph.dims[tensor], keep).to(parameter.device)
            parameter.copy_(parameter.double() / kept if undo else parameter.double() * kept)


def unrounded(
    small: nn.Module, whole: nn.Module, graph: Graph, keep: Keep, plan: Plan, found: Scales | None = None
) -> dict[str, Tensor]:
    """The folded weights of a small model as they were before they were rounded, in float64, by their names.

    `found` is by what they were multiplied, where that is known. Only those where the small model's weight is the rounded
    product, to the last digit of its precision, of the masked model's weight in `whole`; the proof will see any other.
    """
    exactly = {}
    if found is None:
        sure = scales(graph, keep)
        found = joined(sure, asked(graph, keep, sure))
    for tensor, factors in found.items():
        if (name := renamed(tensor, plan)) is not None:
            kept = take(whole.get_parameter(tensor).detach(), graph.dims[tensor], keep).double()
            exact = kept * take(factors, graph.dims[tensor], keep).to(kept.device)
            had = small.get_parameter(name).detach()
            if had.shape == exact.shape and torch.allclose(had.double(), exact, rtol=torch.finfo(had.dtype).eps, atol=0):
                exactly[name] = exact
    return exactly


def unfolded(tensor: str, value: Tensor, found: Scales, graph: Graph, keep: Keep) -> Tensor:
    """A weight of a small eager module as the masked model has it: the inverse of `multiply`, by the dense model's name."""
    if tensor not in found:
        return value
    return (value.double() / take(found[tensor], graph.dims[tensor], keep).to(value.device)).to(value.dtype)

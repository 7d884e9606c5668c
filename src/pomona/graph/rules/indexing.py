"""Picking by number: what is picked from is known by its position."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from pomona.graph.algebra import Misfit, freeze_to, unify
from pomona.graph.expr import Const, Expr, freeze, norm
from pomona.graph.facts import Counted
from pomona.graph.op import Op, Result, broadcast, rule


@rule("embedding")
def embedding(op: Op) -> Result:
    """Rows of a table."""
    w = op.dims("weight")
    op.reads(op.args["weight"], "embedding", 1)
    _pick(op, w[0], "indices", "rows of a table, picked by number")
    return [*op.dims("indices"), norm(w[1])]


def _pick(op: Op, e: Expr, index: Any, why: str = "picked by number") -> None:
    """Positions along `e` are picked: by numbers along a dimension that is then the same, or by some that nobody knows."""
    along, written = op.number(index), op.literal(index)
    if written is not None:
        freeze_to(e, written, why)
    elif along is None or along.n != e.n:
        for unknown in (e,) if along is None else (e, along):
            freeze(unknown, why)
    else:
        unify(e, along)


@rule("embedding_bag", "_embedding_bag")
def embedding_bag(op: Op) -> Result:
    """Rows of a table, summed or averaged by bag; of the bookkeeping that comes with them nothing can be pruned."""
    w = op.dims("weight")
    op.reads(op.args["weight"], "embedding", 1)
    freeze(w[0], "rows of a table, picked by number")
    bags, *notes = op.value
    return [Const(bags.shape[0], "bags"), norm(w[1])], *([Const(k, "bags") for k in note.shape] for note in notes)


@rule("index", "_unsafe_index")
def index(op: Op) -> Result:
    """Advanced indexing; the picked dimensions become the index's own."""
    x, given = op.input, list(op.args["indices"])
    places = [d for d, i in enumerate(given) if i is not None]
    if any(given[d].meta["val"].dtype == torch.bool for d in places):
        return _masked(op, x, places, given[places[0]])
    for d in places:
        _pick(op, x[d], given[d])
    picked = broadcast([op.dims(given[d]) for d in places])
    rest = [norm(e) for e in x]
    if places == list(range(places[0], places[-1] + 1)):
        return rest[: places[0]] + picked + rest[places[-1] + 1 :]
    return picked + [e for d, e in enumerate(rest) if d not in places]


def _masked(op: Op, x: list[Expr], places: list[int], mask: Node) -> Result:
    """A mask over some dimensions leaves one whose length depends on data."""
    if len(places) > 1:
        raise Misfit("a boolean index beside others")
    picked = op.dims(mask)
    start, stop = places[0], places[0] + len(picked)
    for e in (*x[start:stop], *picked):
        freeze(e, "picked by a mask")
    return [*map(norm, x[:start]), Const(op.shape[start], "picked by a mask"), *map(norm, x[stop:])]


@rule("index_select")
def index_select(op: Op) -> Result:
    """Along one dimension."""
    x = op.input
    d = op.axis(x)
    _pick(op, x[d], "index")
    x[d] = op.dims("index")[0]
    return [norm(e) for e in x]


@rule("gather", "take_along_dim")
def gather(op: Op) -> Result:
    """Along one dimension, the others side by side."""
    word = "index" if "index" in op.args else "indices"
    x, i = op.input, op.dims(word)
    d = op.axis(x)
    _pick(op, x[d], word)
    for k, (e, f) in enumerate(zip(x, i, strict=True)):
        if k != d and e.n == f.n:
            unify(e, f)
    return [norm(e) for e in i]


@rule(
    "index_put",
    "index_put_",
    "index_add",
    "index_add_",
    "index_copy",
    "index_copy_",
    "scatter",
    "scatter_",
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
    "scatter_reduce_",
)
def put(op: Op) -> Result:
    """Written to by number: those dimensions are known by position, what is written agrees with the rest."""
    x = op.input
    given = op.args.get("indices")
    if given is None:
        d = op.axis(x)
        index, source = op.maybe("index") or (), op.maybe("source") or op.maybe("src") or ()
        _pick(op, x[d], "index", "written by number")
        for e in source[d : d + 1]:
            freeze(e, "written by number")
        for whole in (index, source) if len(index) == len(x) else ():  # an index of its own for every element
            for k, (e, f) in enumerate(zip(whole, x, strict=False)):
                if k != d and e.n == f.n:
                    unify(e, f)
                elif k != d:
                    freeze(e, "written by number")
        for k, (e, f) in enumerate(zip(x, source, strict=False)):
            if k != d and e.n == f.n:
                unify(e, f)
            elif k != d:
                freeze(e, "written by number")
        return op.input
    for d, i in enumerate(given):
        if i is not None:
            freeze(x[d], "written by number")
    values = op.maybe("values")
    rest = [e for d, e in enumerate(x) if d >= len(given) or given[d] is None]
    for e, f in zip(rest[::-1], (values or [])[::-1], strict=False):
        if e.n == f.n:
            unify(e, f)
    return op.input


@rule("one_hot")
def one_hot(op: Op) -> Result:
    """A new dimension that is a number."""
    along = op.number("self")
    if along is None or along.n != op.shape[-1]:
        if along is not None:
            freeze(along, "a number as a dimension")
        return [*op.input, Const(op.shape[-1], "a number as a dimension")]
    op.tell(Counted(along))
    return [*op.input, along]


@rule("meshgrid")
def meshgrid(op: Op) -> Result:
    """Positions."""
    for t in op.args["tensors"]:
        freeze(op.dims(t)[0], "positions")
    return tuple([Const(k) for k in v.shape] for v in op.value)

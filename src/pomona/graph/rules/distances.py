"""Distances and angles between vectors. A unit is gone from all of them or none; zeroed, it may still count in a distance."""

from __future__ import annotations

from pomona.graph.algebra import unify
from pomona.graph.expr import Const, norm
from pomona.graph.op import Op, Result, broadcast, rule


@rule("cosine_similarity", "pairwise_distance")
def between(op: Op) -> Result:
    """One number for each pair of vectors along a dimension (distances: the last one)."""
    x = broadcast(op.inputs)
    d = int(op.args.get("dim", -1)) % len(x)
    op.normalises((x[d],))
    one = [Const(1)] if op.args.get("keepdim") else []
    return [*map(norm, x[:d]), *one, *map(norm, x[d + 1 :])]


@rule("cdist", "_euclidean_dist", "_cdist_forward")
def all_pairs(op: Op) -> Result:
    """From every row of one to every row of the other."""
    x, y = op.inputs
    unify(x[-1], y[-1])
    op.normalises((x[-1],))
    return [*broadcast((x[:-2], y[:-2])), norm(x[-2]), norm(y[-2])]

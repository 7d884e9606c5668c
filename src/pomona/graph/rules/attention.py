"""Fused attention."""

from __future__ import annotations

from pomona.graph.algebra import split, unify
from pomona.graph.expr import freeze, norm
from pomona.graph.facts import HeadSize
from pomona.graph.op import Op, Result, broadcast, rule


@rule("scaled_dot_product_attention")
def attention(op: Op) -> Result:
    """softmax(q k^T) v. With fewer key than query heads the query heads are (kv groups) x (repeats)."""
    q, k, v = op.dims("query"), op.dims("key"), op.dims("value")
    unify(q[-1], k[-1])
    op.contracts((q[-1],))
    unify(k[-2], v[-2])
    leading = broadcast((q[:-3], k[:-3], v[:-3]))
    if len(q) > 2:
        unify(k[-3], v[-3])
        unify(q[-3] if q[-3].n == k[-3].n else split(q[-3], k[-3].n)[0], k[-3])
    if op.maybe("attn_mask") is not None:
        for e, full in zip(reversed(op.dims("attn_mask")), (k[-2], *q[-2::-1]), strict=False):
            if e.n != 1:
                unify(e, full)
    freeze(k[-2], "positions under a softmax")
    op.tell(HeadSize(q[-1].n))
    for width in (q[-1], v[-1]):
        op.works((*leading, *q[-3:-1], k[-2], width))
    return tuple(norm(e) for e in (*leading, *q[-3:-1], v[-1]))

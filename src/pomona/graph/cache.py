"""What a decoder remembers of every token: the keys and values of its attention."""

from __future__ import annotations

from torch import Tensor, fx

from pomona.graph.expr import Const, Expr, Product, norm
from pomona.graph.nodes import arguments, frames, name_of, traced
from pomona.graph.op import Record
from pomona.graph.terms import Term

_REPEATS = ("expand", "repeat", "repeat_interleave", "broadcast_to")  # shared keys, written out for every query head
_GIVEN = "input"  # why the number of examples is a constant


def cached(walk: Record) -> list[Term]:
    """Bytes of the keys and of the values of one token, for every fused attention.

    Keys that several heads share are remembered once. What an encoder could forget is counted as well; attention that is
    written out as products is not looked at.
    """
    found = []
    for node in walk.values:
        if name_of(node) == "scaled_dot_product_attention":
            given = arguments(node)
            found += [_term(_stored(given[word], walk), walk, tuple(frames(node))) for word in ("key", "value")]
    return found


def _stored(node: fx.Node, walk: Record) -> fx.Node:
    """The same before it was repeated, on the way back to the weight that made it."""
    makers = {maker for maker, work in walk.work if work.tensor is not None}
    stored = node
    while node.all_input_nodes and node not in makers:
        before = node.all_input_nodes[0]
        stored = before if name_of(node) in _REPEATS else stored
        node = before
    return stored


def _term(node: fx.Node, walk: Record, within: tuple[str, ...]) -> Term:
    value, dims = traced(node), walk.values[node]
    assert isinstance(value, Tensor) and isinstance(dims, tuple)  # what attention reads
    features = (*dims[:-2], dims[-1])  # all but the tokens
    factors = [part for e in features for part in _parts(norm(e)) if not (isinstance(part, Const) and part.why == _GIVEN)]
    return Term(value.element_size(), factors, None, within)


def _parts(e: Expr) -> list[Expr]:
    return [norm(part) for part in e.parts] if isinstance(e, Product) else [e]

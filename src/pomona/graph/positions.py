"""Tensors whose values are positions along a dimension: what they may go through before somebody picks with them."""

from __future__ import annotations

from typing import Any

from torch import fx

from pomona.graph.algebra import unify
from pomona.graph.expr import Expr, freeze, norm
from pomona.graph.op import Record

_SHAPE_ONLY = frozenset(("_assert_tensor_metadata", "zeros_like", "ones_like", "empty_like", "full_like"))
_MOVE_NUMBERS = frozenset((
    "view", "reshape", "flatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "to", "_to_copy", "clone",
    "contiguous", "detach", "alias", "index", "index_select", "gather", "select", "slice", "repeat_interleave", "sort",
))  # fmt: skip

_JOIN_NUMBERS = frozenset(("cat", "concat", "concatenate", "stack"))


def pass_numbers(n: fx.Node, name: str, record: Record) -> None:
    """What only moves numbers of positions about passes them on; what may do anything else with them fixes the positions."""
    if name in _JOIN_NUMBERS and (joined := _joined(n, record)) is not None:
        record.numbers[n] = joined
        return
    for v in n.all_input_nodes:
        along = record.numbers.get(v)
        if along is None or isinstance(along, list) or (n, v) in record.asked or name in _SHAPE_ONLY:
            continue
        if name in _MOVE_NUMBERS and v is n.args[0]:
            record.numbers[n] = [along, None] if name == "sort" else along
        else:
            freeze(along, f"positions known by number in {name}")


def hold_numbers(along: Any, why: str) -> None:
    """Freeze the dimensions along which the values of a node, or of its several outputs, are positions."""
    for e in along if isinstance(along, list) else [along]:
        if e is not None:
            freeze(e, why)


def _joined(n: fx.Node, record: Record) -> Expr | None:
    """The one dimension along which all inputs have positions; None where some have other numbers."""
    found = [record.numbers.get(v) for v in n.all_input_nodes]
    joined: list[Expr] = [e for e in found if e is not None and not isinstance(e, list)]
    if not joined or len(joined) < len(found) or any(e.n != joined[0].n for e in joined):
        return None
    for e in joined[1:]:
        unify(joined[0], e)
    return norm(joined[0])

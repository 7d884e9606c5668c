"""Tensors made from nothing: zeros of any length are zeros, so their dimensions are free; ranges are not."""

from __future__ import annotations

from pomona.graph.draws import LIKE, SHAPED
from pomona.graph.expr import Const, freeze, fresh
from pomona.graph.op import Op, Result, rule


@rule(
    "zeros",
    "ones",
    "full",
    "empty",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "scalar_tensor",
)
def filled(op: Op) -> Result:
    """Every dimension is a fresh atom; `*_like` too, since only their shape is taken."""
    return [fresh(k) for k in op.shape]


@rule("arange", "linspace", "eye", "tril_indices")
def counted(op: Op) -> Result:
    """Positions."""
    return [Const(k) for k in op.shape]


@rule(*SHAPED, *LIKE)
def drawn(op: Op) -> Result:
    """Random numbers: as many must be drawn as before for the others to stay the same."""
    for e in (e for dims in op.inputs for e in dims):
        freeze(e, "random numbers")
    return [Const(k, "random numbers") for k in op.shape]

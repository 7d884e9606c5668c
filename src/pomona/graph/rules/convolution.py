"""Convolutions, plain, grouped, depthwise and transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pomona.graph.algebra import reshape, unify
from pomona.graph.expr import Const, Dims, Expr, freeze, norm, product_of
from pomona.graph.facts import Groups
from pomona.graph.op import Op, Result, rule
from pomona.vocabulary import Convolution


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
def convolution(op: Op) -> Result:
    """Channels in and out are free; a group factor is shared by the input, the weight and the output."""
    x, w, how = op.dims("input"), op.dims("weight"), _how(op)
    into, out = (w[0], w[1]) if how.transposed else (w[1], w[0])
    if how.groups == 1:
        unify(x[1], into)
        features = out
    else:
        features = _grouped(op, x[1], into, out, how)
    bias = None
    if op.maybe("bias") is not None:
        unify(op.dims("bias")[0], features)
        bias = op.reads(op.args["bias"], "bias")
    for e in w[2:]:
        freeze(e, "kernel size")
    tensor = op.reads(op.args["weight"], "conv", int(how.transposed), int(not how.transposed), how, bias)
    space = _space(x[2:], [e.n for e in w[2:]], how, op.shape[2:])
    # A transposed convolution multiplies once for each input position, the others once for each output position.
    op.works((x[0], *w, *(x[2:] if how.transposed else space)), tensor)
    return (norm(x[0]), norm(features), *space)


def _grouped(op: Op, x: Expr, into: Expr, out: Expr, how: Convolution) -> Expr:
    groups, inner = reshape((x,), (how.groups, x.n // how.groups))
    op.tell(Groups(groups))
    if how.transposed:
        weight_groups, weight_inner = reshape((into,), (how.groups, into.n // how.groups))
        unify(inner, weight_inner)
    else:
        unify(inner, into)
        weight_groups, _ = reshape((out,), (how.groups, out.n // how.groups))
    unify(groups, weight_groups)
    return product_of((groups, out)) if how.transposed else out


def _space(space: Sequence[Expr], kernel: Sequence[int], how: Convolution, after: Sequence[int]) -> Dims:
    """A kernel of one that walks without stride or padding leaves positions alone; others freeze them."""
    out: list[Expr] = []
    for e, k, stride, padding, n in zip(space, kernel, how.stride, how.padding, after, strict=True):
        if (k, stride, padding) == (1, 1, 0) and e.n == n:
            out.append(norm(e))
        else:
            freeze(e, "positions of a convolution")
            out.append(Const(n))
    return tuple(out)


def _how(op: Op) -> Convolution:
    kernel = tuple(e.n for e in op.dims("weight")[2:])
    stride, dilation = (_each(op.args.get(k), len(kernel)) for k in ("stride", "dilation"))
    given, trailing = op.args.get("padding"), _each(op.args.get("output_padding") or 0, len(kernel))
    if given == "same":
        padding, trailing = Convolution.same(kernel, dilation)
    else:
        padding = _each(0 if given == "valid" else given, len(kernel))
    transposed = "transpose" in op.name or bool(op.args.get("transposed"))
    return Convolution(stride, padding, dilation, int(op.args["groups"]), transposed, trailing)


def _each(given: Any, rank: int) -> tuple[int, ...]:
    several = (given,) if isinstance(given, int) else tuple(given)
    return several * rank if len(several) == 1 else several

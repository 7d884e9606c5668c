"""Positions in pictures and sequences: pooling, padding, resampling, unfolding."""

from __future__ import annotations

from math import prod

from pomona.graph.algebra import reshape, unify
from pomona.graph.expr import Const, Expr, freeze, norm, product_of, sum_of
from pomona.graph.facts import Groups
from pomona.graph.op import Op, Result, rule


@rule(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "max_pool2d_with_indices",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_linear1d",
    "upsample_trilinear3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "grid_sampler",
    "grid_sampler_2d",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
    "lp_pool2d",
)
def pool(op: Op) -> Result:
    """Batch and channels go through, positions do not."""
    single = not isinstance(op.value, (tuple, list))
    x, shape = op.input, op.shape if single else list(op.value[0].shape)
    kept = 2 if not op.name.endswith("1d") or len(x) > 2 else 1
    for e in x[kept:]:
        freeze(e, "positions")
    out: list[Expr] = [*map(norm, x[:kept]), *(Const(k, "positions") for k in shape[kept:])]
    return out if single else tuple(list(out) for _ in op.value)


@rule("max_unpool2d", "max_unpool3d")
def unpool(op: Op) -> Result:
    """Values go where pooling found them, channel by channel."""
    x, where, lead = op.dims("self"), op.dims("indices"), len(op.input) - int(op.name[-2])
    for e, f in zip(x, where, strict=True):
        unify(e, f)
    for e in x[lead:]:
        freeze(e, "positions")
    return [*map(norm, x[:lead]), *(Const(k, "positions") for k in op.shape[lead:])]


@rule("pad", "constant_pad_nd")
def pad(op: Op) -> Result:
    """Zeros before and after are constants beside what was there."""
    x, amounts = op.input, list(op.args["pad"])
    for number in range(len(amounts) // 2):
        before, after = amounts[2 * number : 2 * number + 2]
        d = len(x) - 1 - number
        if before == after == 0:
            continue
        if min(before, after) < 0 or op.args.get("mode", "constant") != "constant":
            freeze(x[d], "padding")
            x[d] = Const(op.shape[d], "padding")
        else:
            x[d] = sum_of((Const(before, "padding"), x[d], Const(after, "padding")))
    return [norm(e) for e in x]


@rule("unfold")
def unfold(op: Op) -> Result:
    """Windows along one dimension."""
    x = op.input
    d = op.axis(x, "dimension")
    freeze(x[d], "windows")
    return [Const(op.shape[d], "positions") if i == d else norm(e) for i, e in enumerate(x)] + [Const(op.shape[-1], "windows")]


@rule("im2col")
def im2col(op: Op) -> Result:
    """Channels times kernel positions."""
    x, k = op.input, prod(op.args["kernel_size"])
    for e in x[2:]:
        freeze(e, "positions")
    return [x[0], product_of((x[1], Const(k, "kernel positions"))), Const(op.shape[-1], "positions")]


@rule("col2im")
def col2im(op: Op) -> Result:
    """The reverse."""
    x, k = op.input, prod(op.args["kernel_size"])
    channels, inner = reshape((x[1],), (x[1].n // k, k))
    freeze(inner, "kernel positions")
    freeze(x[2], "positions")
    return [norm(x[0]), norm(channels), *(Const(n, "positions") for n in op.shape[2:])]


@rule("pixel_shuffle")
def pixel_shuffle(op: Op) -> Result:
    """Channels give r * r positions each."""
    x, r = op.input, int(op.args["upscale_factor"])
    channels, inner = reshape((x[1],), (x[1].n // (r * r), r * r))
    freeze(inner, "pixel positions")
    return [norm(x[0]), norm(channels), *(Const(n, "positions") for n in op.shape[2:])]


@rule("pixel_unshuffle")
def pixel_unshuffle(op: Op) -> Result:
    """Positions become channels."""
    x, r = op.input, int(op.args["downscale_factor"])
    for e in x[2:]:
        freeze(e, "positions")
    return [norm(x[0]), product_of((x[1], Const(r * r, "pixel positions"))), *(Const(n, "positions") for n in op.shape[2:])]


@rule("channel_shuffle")
def channel_shuffle(op: Op) -> Result:
    """Groups and their channels change places."""
    x, g = op.input, int(op.args["groups"])
    groups, inner = reshape((x[1],), (g, x[1].n // g))
    op.tell(Groups(groups))
    return [norm(x[0]), product_of((inner, groups)), *map(norm, x[2:])]

"""Normalisers. Zeroing a unit under one of these is not the same as removing it, which is recorded."""

from __future__ import annotations

from torch import Tensor

from pomona.graph.algebra import reshape, unify
from pomona.graph.facts import Groups
from pomona.graph.op import Op, Result, broadcast, rule


@rule("batch_norm", "_native_batch_norm_legit_no_training", "instance_norm", "cudnn_batch_norm")
def batch_norm(op: Op) -> Result:
    """Affine by channel (dimension 1) in evaluation; with batch statistics it normalises over everything else."""
    x = op.dims("input")
    for argument in ("weight", "bias", "running_mean", "running_var"):
        if op.maybe(argument) is not None:
            unify(x[1], op.dims(argument)[0])
            op.reads(op.args[argument], "bias" if argument == "bias" else "norm")
    if op.args.get("training") or op.args.get("use_input_stats"):
        op.normalises((*(() if op.name == "instance_norm" else x[:1]), *x[2:]))
    return op.dims("input")


@rule("layer_norm", "rms_norm", "_fused_rms_norm", "native_layer_norm")
def layer_norm(op: Op) -> Result:
    """Over the last dimensions, with an affine map of their shape."""
    x = op.dims("input")
    over = x[-len(op.args["normalized_shape"]) :]
    for argument in ("weight", "bias"):
        if op.maybe(argument) is not None:
            for e, f in zip(over, op.dims(argument), strict=True):
                unify(e, f)
            op.reads(op.args[argument], "bias" if argument == "bias" else "norm")
    op.normalises(over)
    return op.dims("input")


@rule("group_norm")
def group_norm(op: Op) -> Result:
    """Groups stand alone; the channels inside of a group are under the normaliser."""
    x, groups = op.dims("input"), op.args["num_groups"]
    outer, inner = reshape((x[1],), (groups, x[1].n // groups))
    op.tell(Groups(outer))
    for argument in ("weight", "bias"):
        if op.maybe(argument) is not None:
            unify(x[1], op.dims(argument)[0])
            op.reads(op.args[argument], "bias" if argument == "bias" else "norm")
    op.normalises((inner,))
    return op.dims("input")


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "softmin")
def softmax(op: Op) -> Result:
    """Over one dimension."""
    x = op.input
    op.normalises((x[op.args["dim"]],))
    return x


@rule("_weight_norm", "_weight_norm_interface")
def weight_norm(op: Op) -> Result:
    """Directions v are given lengths g along one dimension. A masked unit has no direction, so only the kept are looked at."""
    v, g = op.dims("v"), op.dims("g")
    made = broadcast((v, g))
    if op.args["dim"] != -1:
        op.normalises((made[op.args["dim"]],))
    op.reads(op.args["g"], "norm")
    return made if isinstance(op.value, Tensor) else (made, g)

"""Ops that act on each element: all inputs have the same dimensions, after broadcasting."""

from __future__ import annotations

from torch.fx import Node

from pomona.graph.draws import DROPPING, drops
from pomona.graph.expr import freeze
from pomona.graph.op import Op, Result, broadcast, rule


@rule(
    "alias",
    "contiguous",
    "detach",
    "detach_",
    "clone",
    "to",
    "type_as",
    "_to_copy",
    "lift_fresh_copy",
    "lift_fresh",
    "lift",
    "float",
    "half",
    "double",
    "_assert_tensor_metadata",
)
def same(op: Op) -> Result:
    """The tensor itself, perhaps in another type or place."""
    op.carries()
    return op.input


@rule(*DROPPING)
def dropout(op: Op) -> Result:
    """The tensor itself; where entries are dropped in evaluation, too, as many must be drawn as before."""
    if drops(op.node):
        for e in op.input:
            freeze(e, "random numbers")
    op.carries()
    return op.input if not isinstance(op.value, (list, tuple)) else [op.input for _ in op.value]


@rule(
    "add",
    "add_",
    "sub",
    "sub_",
    "rsub",
    "mul",
    "mul_",
    "div",
    "div_",
    "multiply",
    "subtract",
    "divide",
    "true_divide",
    "pow",
    "pow_",
    "sin",
    "cos",
    "exp",
    "exp_",
    "log",
    "sqrt",
    "rsqrt",
    "neg",
    "abs",
    "sigmoid",
    "sigmoid_",
    "relu",
    "relu_",
    "relu6",
    "relu6_",
    "gelu",
    "silu",
    "silu_",
    "mish",
    "mish_",
    "tanh",
    "tanh_",
    "hardtanh",
    "hardtanh_",
    "hardsigmoid",
    "hardsigmoid_",
    "hardswish",
    "hardswish_",
    "leaky_relu",
    "leaky_relu_",
    "elu",
    "elu_",
    "softplus",
    "clamp",
    "clamp_",
    "clamp_min",
    "clamp_min_",
    "clamp_max",
    "addcmul",
    "addcdiv",
    "where",
    "masked_fill",
    "masked_fill_",
    "eq",
    "ne",
    "gt",
    "ge",
    "lt",
    "le",
    "logical_and",
    "logical_or",
    "logical_not",
    "bitwise_not",
    "bitwise_and",
    "bitwise_or",
    "__and__",
    "__or__",
    "maximum",
    "minimum",
    "floor",
    "ceil",
    "round",
    "floor_divide",
    "remainder",
    "fmod",
    "reciprocal",
    "erf",
    "log1p",
    "expm1",
    "square",
    "nan_to_num",
    "sign",
    "isnan",
    "copy",
    "copy_",
    "lerp",
    "logsigmoid",
    "log_sigmoid",
    "selu",
    "celu",
    "softsign",
    "tanhshrink",
    "hardshrink",
    "softshrink",
    "logit",
    "zero_",
    "fill_",
)
def pointwise(op: Op) -> Result:
    """One result an element. A parameter that takes part scales or shifts what it meets."""
    kind = "bias" if op.name in ("add", "add_", "sub", "sub_") else "norm" if _meets_normalised(op) else "other"
    for node in op.node.all_input_nodes:
        vector = len(op.record.sources.get(node, ("", ()))[1]) == 1
        op.reads(node, kind if vector else "other")  # type: ignore[arg-type]
    return broadcast(op.inputs)


@rule("prelu", "_prelu_kernel")
def prelu(op: Op) -> Result:
    """A slope for each channel (dimension 1) or one for all."""
    x, (slope,) = op.input, op.dims("weight")
    op.reads(op.args["weight"], "other")
    broadcast((x[1:2], (slope,)))
    return op.input


def _meets_normalised(op: Op) -> bool:
    """Whether something divided by a root takes part: x * rsqrt(mean(x^2) + eps) * weight is a written-out RMSNorm."""
    front = [n for n in op.node.all_input_nodes if n not in op.record.sources]
    for _ in range(3):  # a cast or two may lie between
        names = {_name(n) for n in front}
        if names & {"rsqrt", "sqrt"}:
            return True
        front = [m for n in front if _name(n) in ("to", "_to_copy", "mul", "div", "type_as") for m in n.all_input_nodes]
    return False


def _name(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[1] if schema else ""

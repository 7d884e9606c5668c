"""Straight lines for the curves that models are made of, by the name of the op; for `absolute`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Each is 1-Lipschitz, or nearly (GELU and SiLU have slopes up to 1.13).
_ACTIVATIONS = frozenset((
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "hardtanh", "sigmoid", "logsigmoid", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
    "threshold", "clamp", "clamp_min", "clamp_max", "clip", "dropout", "local_response_norm", "normalize", "pow",
    "square",
))  # fmt: skip

_NORMS = (torch.linalg.norm, torch.linalg.vector_norm)


def active(x: Any) -> bool:
    """Whether a value depends on the input."""
    return isinstance(x, Tensor) and x.requires_grad


def _passed(x: Tensor, *more: Any, **rest: Any) -> Tensor:
    return x


def _as_double(x: Tensor, *more: Any, **rest: Any) -> Tensor:
    return x.double()


def _sum(x: Any, other: Any, **rest: Any) -> Tensor:
    return torch.add(x, other)


def _product(x: Any, other: Any, **rest: Any) -> Tensor:
    return torch.add(x, other) if active(x) and active(other) else torch.mul(_unsigned(x), _unsigned(other))


def _product_in_place(x: Tensor, other: Any) -> Tensor:
    return x.add_(other) if active(x) and active(other) else x.mul_(_unsigned(other))


def _unsigned(x: Any) -> Any:
    return x if active(x) else abs(x)


def _quotient(x: Any, other: Any, **rest: Any) -> Tensor:
    return x if active(other) else torch.div(x, _unsigned(other), **rest)


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    one, two = torch.chunk(x, 2, dim)
    return one + two


def _embedding(ids: Tensor, weight: Tensor, *more: Any, **rest: Any) -> Tensor:
    return F.embedding(ids, weight).requires_grad_()


def _measured(measure: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What is measured of activations to divide or multiply them by counts as one."""

    def one(x: Tensor, *more: Any, **rest: Any) -> Tensor:
        return torch.ones_like(measure(x.detach(), *more, **rest))

    return one


def _uniform(x: Tensor, dim: int = -1, *more: Any, **rest: Any) -> Tensor:
    return torch.full_like(x.detach(), 1 / x.shape[dim])


def _attention(query: Tensor, key: Tensor, value: Tensor, *more: Any, **rest: Any) -> Tensor:
    seen = value.mean(-2, keepdim=True).expand(*value.shape[:-2], query.shape[-2], value.shape[-1])
    queries = query.shape[-3] if query.dim() > 2 else 1
    return seen.repeat_interleave(queries // value.shape[-3], -3) if value.dim() > 2 else seen


def _layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Any = None, *more: Any, **rest: Any
) -> Tensor:
    return x if weight is None else x * weight


def _group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, *more: Any, **rest: Any) -> Tensor:
    return x if weight is None else x * weight.view(-1, *[1] * (x.dim() - 2))


def _instance_norm(
    x: Tensor, running_mean: Any = None, running_var: Any = None, weight: Tensor | None = None, *more: Any, **rest: Any
) -> Tensor:
    return _group_norm(x, 1, weight)


def _averaged(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def average(
        x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **rest: Any
    ) -> Tensor:
        return pool(x, kernel_size, stride or None, padding, ceil_mode)

    return average


def _adaptive(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def average(x: Tensor, output_size: Any, *more: Any, **rest: Any) -> Tensor:
        return pool(x, output_size)

    return average


# Whatever they are given.
ALWAYS: Mapping[str, Callable[..., Tensor]] = {
    **dict.fromkeys(("float", "half", "bfloat16"), _as_double),
    "embedding": _embedding,
}
# Where an activation is among the arguments.
STRAIGHT: Mapping[str, Callable[..., Tensor]] = {
    **ALWAYS,
    **dict.fromkeys(_ACTIVATIONS, _passed),
    **dict.fromkeys(("neg", "negative", "rsub", "__rsub__"), _passed),
    **dict.fromkeys(("sub", "subtract"), _sum),
    **dict.fromkeys(("mul", "multiply"), _product),
    "mul_": _product_in_place,
    **dict.fromkeys(("div", "divide", "true_divide"), _quotient),
    **{f.__name__: _measured(f) for f in (torch.rsqrt, torch.reciprocal, torch.norm, torch.std, torch.var, *_NORMS)},
    "__rdiv__": _measured(torch.reciprocal),
    "glu": _glu,
    "softmax": _uniform,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "max_pool1d": _averaged(F.avg_pool1d),
    "max_pool2d": _averaged(F.avg_pool2d),
    "max_pool3d": _averaged(F.avg_pool3d),
    "adaptive_max_pool1d": _adaptive(F.adaptive_avg_pool1d),
    "adaptive_max_pool2d": _adaptive(F.adaptive_avg_pool2d),
    "adaptive_max_pool3d": _adaptive(F.adaptive_avg_pool3d),
}

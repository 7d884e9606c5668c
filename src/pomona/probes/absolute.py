"""A model as the sums and scalings that it is made of: absolute weights, activations passed on (Yu et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# Each is 1-Lipschitz, or nearly (GELU and SiLU have slopes up to 1.13).
_ACTIVATIONS = frozenset((
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "hardtanh", "sigmoid", "logsigmoid", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
    "threshold", "clamp", "clamp_min", "clamp_max", "clip", "dropout", "local_response_norm", "normalize", "pow",
    "square",
))  # fmt: skip
_SHORT = (torch.float32, torch.float16, torch.bfloat16)


def absolute(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The model's answer with |w| for every parameter w, in float64, and with a straight line for every curve.

    Activations pass their input on, maximum pooling averages, and normalisations that look at the data only scale by their
    |gamma|: what they divide by is one number for all units of an example. Batch normalisation and all that is linear stay
    what they are. Beyond the paper: two activations that are multiplied count as factors of size one, so that their product
    becomes their sum, and attention looks at all tokens alike. Gradients in this network do not depend on the input, if the
    model is made of nothing else.
    """
    tensors = {name: p.detach().abs() for name, p in model.named_parameters()} | dict(model.named_buffers())
    doubled = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    with _Straight():
        return functional_call(model, doubled, tree_map(_alive, args), tree_map(_alive, dict(kwargs)))


def _alive(value: Any) -> Any:
    """A copy that requires a gradient, by which activations are told from weights and constants."""
    return value.detach().double().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value


class _Straight(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        # Casts to a shorter type would overflow after some twenty layers.
        given = [_longest(value) for value in args]
        named = {name: _longest(value) for name, value in (kwargs or {}).items()}
        name = getattr(func, "__name__", "")
        straight = _STRAIGHT.get(name) or _STRAIGHT.get(name.rstrip("_"))
        if straight is None:
            return func(*given, **named)
        return straight(*((named.pop("input"),) if "input" in named else ()), *given, **named)


def _longest(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _SHORT else value


def _passed(x: Tensor, *more: Any, **rest: Any) -> Tensor:
    return x


def _as_double(x: Tensor, *more: Any, **rest: Any) -> Tensor:
    return x.double()


def _active(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _product(x: Any, other: Any, **rest: Any) -> Tensor:
    return torch.add(x, other) if _active(x) and _active(other) else torch.mul(x, other, **rest)


def _product_in_place(x: Tensor, other: Any) -> Tensor:
    return x.add_(other) if _active(x) and _active(other) else x.mul_(other)


def _quotient(x: Any, other: Any, **rest: Any) -> Tensor:
    return x if _active(other) else torch.div(x, other, **rest)


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    one, two = torch.chunk(x, 2, dim)
    return one + two


def _embedding(ids: Tensor, weight: Tensor, *more: Any, **rest: Any) -> Tensor:
    return F.embedding(ids, weight).requires_grad_()


def _one(x: Tensor, **rest: Any) -> Tensor:
    return torch.ones_like(x)


def _uniform(x: Tensor, dim: int = -1, *more: Any, **rest: Any) -> Tensor:
    return torch.full_like(x, 1 / x.shape[dim])


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


_STRAIGHT: Mapping[str, Callable[..., Tensor]] = {
    **dict.fromkeys(_ACTIVATIONS, _passed),
    **dict.fromkeys(("float", "half", "bfloat16"), _as_double),
    **dict.fromkeys(("mul", "multiply"), _product),
    "mul_": _product_in_place,
    **dict.fromkeys(("div", "divide", "true_divide"), _quotient),
    "embedding": _embedding,
    "glu": _glu,
    "rsqrt": _one,
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

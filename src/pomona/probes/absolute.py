"""A model as the sums and scalings that it is made of: absolute weights, activations passed through (Yu et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Each is 1-Lipschitz, or nearly (GELU and SiLU have slopes up to 1.13).
_ACTIVATIONS = frozenset((
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "hardtanh", "sigmoid", "logsigmoid", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
    "threshold", "clamp", "clamp_min", "clamp_max", "clip", "dropout", "local_response_norm",
))  # fmt: skip


def absolute(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The model's answer with |w| for every parameter w, in float64, and with a straight line for every curve.

    Activations pass their input on, maximum pooling averages, and normalisations that look at the data only scale by their
    |gamma|: what they divide by is one number for all units of an example. Batch normalisation and all that is linear stay
    what they are. So gradients in this network do not depend on the input, if it is made of nothing else.
    """
    tensors = {name: p.detach().abs() for name, p in model.named_parameters()} | dict(model.named_buffers())
    doubled = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    with _Straight():
        return functional_call(model, doubled, args, dict(kwargs))


class _Straight(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        name, given = getattr(func, "__name__", "").rstrip("_"), dict(kwargs or {})
        if name not in _STRAIGHT:
            return func(*args, **given)
        return _STRAIGHT[name](*((given.pop("input"),) if "input" in given else ()), *args, **given)


def _passed(x: Tensor, *more: Any, **rest: Any) -> Tensor:
    return x


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

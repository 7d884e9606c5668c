"""A model as the sums and scalings that it is made of: absolute weights, activations passed on (Yu et al., 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from pomona.probes.straight import ALWAYS, STRAIGHT, active

_SHORT = (torch.float32, torch.float16, torch.bfloat16)


def absolute(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The model's answer with |w| for every weight w that meets an activation, a straight line for every curve, in float64.

    Activations pass their input on, maximum pooling averages, and normalisations that look at the data only scale by their
    |gamma|: what they divide by is one number for all units of an example. Batch normalisation and all that is linear stay
    what they are; differences are sums. Beyond the paper: two activations that are multiplied count as factors of size one,
    so that their product becomes their sum, and attention looks at all tokens alike. Gradients in this network do not depend
    on the input, if the model is made of nothing else.
    """
    tensors = {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())
    doubled = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    with _Straight():
        return functional_call(model, doubled, tree_map(_alive, args), tree_map(_alive, dict(kwargs)))


def _alive(value: Any) -> Any:
    """A copy that requires a gradient, by which activations are told from weights and constants."""
    return value.detach().double().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value


class _Straight(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        given, named = tree_map(_longest, list(args)), tree_map(_longest, kwargs or {})
        if not any(map(active, tree_leaves((given, named)))):
            return ALWAYS.get(name, func)(*given, **named)
        if not name.endswith("_"):  # what is written into must stay itself
            given, named = tree_map(_size, given), tree_map(_size, named)
        straight = STRAIGHT.get(name) or STRAIGHT.get(name.rstrip("_"))
        if straight is None:
            return func(*given, **named)
        return straight(*((named.pop("input"),) if "input" in named else ()), *given, **named)


def _longest(value: Any) -> Any:
    # Casts to a shorter type would overflow after some twenty layers.
    return torch.float64 if isinstance(value, torch.dtype) and value in _SHORT else value


def _size(value: Any) -> Any:
    """Weights and constants without their signs."""
    return value.abs() if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad else value

"""What a model's layers are called with, and how far a copy of it with other layers is off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.reference import tensors_of
from pomona.vocabulary import InputError, evaluating, first_line

_HALF = (torch.bfloat16, torch.float16)


@dataclass
class Call:
    """What a layer was given in one pass: the largest input, and how often it was called."""

    x: Tensor | None = None
    times: int = 0


def calls_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], kinds: tuple[type[nn.Module], ...]
) -> dict[str, Call]:
    """One pass, listened to: every layer of these kinds by its first name, its input on the meta device.

    Raises InputError where the model does not run.
    """
    seen = {name: Call() for name, layer in model.named_modules() if isinstance(layer, kinds)}

    def listen(call: Call) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], __: Any) -> None:
            call.times += 1
            if given and isinstance(given[0], Tensor) and (call.x is None or given[0].numel() > call.x.numel()):
                call.x = given[0].detach().to("meta")

        return hook  # fmt: skip

    hooks = [layer.register_forward_hook(listen(seen[name])) for name, layer in model.named_modules() if name in seen]
    try:
        with evaluating(model), torch.no_grad():
            model(*args, **kwargs)
    # The forward pass is the user's; whatever it raises means that it does not take these inputs.
    except Exception as error:
        raise InputError(f"{type(model).__name__} does not run on these inputs: {first_line(error)}.") from error
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def irreplaceable(layer: nn.Module, call: Call, kinds: tuple[type[nn.Module], ...]) -> str | None:
    """Why another layer cannot take this one's place, whatever its weight is."""
    if type(layer) not in kinds:
        base = next(kind for kind in kinds if isinstance(layer, kind))
        return f"a {type(layer).__name__} is not a plain {base.__name__}"
    if call.x is None:
        return "its forward is not called on these inputs"
    if layer._forward_pre_hooks or layer._forward_hooks or layer._backward_hooks:
        return "it has hooks"
    return None


def distance(
    model: nn.Module, other: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[float, bool]:  # fmt: skip
    """How far the outputs of `other` are off, relative in the Euclidean norm, and whether they are of a half type.

    Equal infinities and NaN in the same place are no difference; infinitely far is what only one of them has, or another shape.
    Whole numbers and truth values count where there is nothing else, by the share that differs.
    """
    with evaluating(model, other), torch.no_grad():
        found = [each(*args, **kwargs) for each in (model, other)]
    rough = any(isinstance(leaf, Tensor) and leaf.dtype in _HALF for leaf in tree_leaves(found[0]))
    ours, theirs = map(tensors_of, found)
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return math.inf, rough
    pairs = list(zip(ours, theirs, strict=True))
    if not any(map(_inexact, ours)):
        return sum(int((a != b).sum()) for a, b in pairs) / max(1, sum(a.numel() for a in ours)), rough
    off, size = (
        math.sqrt(sum(float(t.abs().square().sum()) for t in some))
        for some in ([_gaps(a, b) for a, b in pairs if _inexact(a)], [a[a.isfinite()] for a in ours if _inexact(a)])
    )
    return off / size if size else off, rough


def check_comparable(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: float, allowed: float) -> None:
    """Raises InputError where a distance of `error` is the model's own doing: it does not repeat itself, or is not finite."""
    name = type(model).__name__
    moved, _ = distance(model, model, args, kwargs)
    if moved > allowed:
        raise InputError(f"{name} differs from itself by {moved:.1e}; is there randomness or state in its forward pass?")
    with evaluating(model), torch.no_grad():
        finite = all(bool(t.isfinite().all()) for t in tensors_of(model(*args, **kwargs)))
    # Zero times infinity is NaN, and packed layers leave zeros out.
    if math.isinf(error) and not finite:
        raise InputError(f"{name} gives NaN or infinities here, by which packed layers cannot be judged; take other inputs.")


def _inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _gaps(a: Tensor, b: Tensor) -> Tensor:
    """Distances of the values that differ; infinite where one is finite and the other is not."""
    apart = (a != b) & ~(a.isnan() & b.isnan())
    return (a - b)[apart].abs().nan_to_num(math.inf, math.inf)

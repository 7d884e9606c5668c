"""Layer-wise relevance propagation: the backward pass that carries relevance instead of gradients (Bach et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pomona.vocabulary import InputError

Rule = Literal["epsilon", "positive"]
Linear = Callable[[Tensor, Tensor], Tensor]  # (input, weight) -> output without bias

_PASSED = frozenset((
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh", "hardswish", "softplus", "tanh",
    "sigmoid", "hardsigmoid", "dropout", "clamp", "clamp_min", "layer_norm", "rms_norm", "group_norm", "instance_norm",
))  # fmt: skip
_GATES = frozenset(("sigmoid", "hardsigmoid"))
# The gradient of what only moves or chooses numbers is the very thing that relevance does there.
_MOVED = frozenset((
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "t",
    "contiguous", "unsqueeze", "squeeze", "cat", "concat", "stack", "chunk", "split", "unbind", "narrow", "select",
    "__getitem__", "__get__", "expand", "expand_as", "repeat", "clone", "to", "float", "double", "type_as", "pad", "roll",
    "flip", "index_select", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "amax", "max_pool1d", "max_pool2d",
    "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
))  # fmt: skip
_AVERAGED = frozenset((
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "mean", "sum",
))  # fmt: skip
_SIGNS = {"add": 1, "__add__": 1, "__radd__": 1, "__iadd__": 1, "sub": -1, "__sub__": -1, "__isub__": -1}
_FACTORS = frozenset(("mul", "__mul__", "__rmul__", "__imul__", "div", "__truediv__", "true_divide", "__itruediv__"))
_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))


class Redistributed(TorchFunctionMode):
    """While it is on, whatever the model computes hands relevance back where it would hand back gradients.

    `dense` and `convolution` say how linear layers and convolutions split it: "epsilon" in proportion to all contributions
    a w, bias included; "positive" (alpha 1, beta 0) in proportion to those above zero. Batch norms are folded into the layer
    before them; alone, as other norms, elementwise curves and constant factors do, they pass relevance on. So does a signal
    that a sigmoid gates; the gate gets none. Sums and averages split it in proportion, maxima give it to the winner. Raises
    InputError, naming it, for an operation without a rule.
    """

    def __init__(self, dense: Rule, convolution: Rule, epsilon: float) -> None:
        super().__init__()
        self.dense, self.convolution, self.epsilon = dense, convolution, epsilon

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        """What `func` returns, tied to its inputs by the rule instead of by its derivative."""
        name, given = _name(func), dict(kwargs or {})
        if not any(map(_carries, tree_leaves((args, given)))):
            with torch.no_grad():
                return func(*args, **given)
        args = (*_named("input", given), *args, *_named("other", given))
        if name in _MOVED:
            moved = func(*args, **given)
            if isinstance(moved, Tensor) and getattr(args[0], "_gates", False):
                moved._gates = True  # type: ignore[attr-defined]
            return moved
        if name == "linear" or name in _CONVOLUTIONS:
            return self._layer(name, func, args, given)
        if name == "batch_norm":
            return self._norm(func, args, given)
        if name in _SIGNS and isinstance(args[1], Tensor):
            return self._sum(func, args, given, _SIGNS[name])
        if name in _FACTORS:
            return _product(name, func, args, given)
        if name in _PASSED or name in _SIGNS:
            output = _attached(_plain(func, args, given), lambda relevance: (relevance,), args[0])
            output._gates = name in _GATES  # type: ignore[attr-defined]
            return output
        if name in _AVERAGED:
            return self._attach(_Layer(lambda x, _: func(x, *args[1:], **given), args[0]), "epsilon", _plain(func, args, given))
        return _without_rule(name, func, args, given)

    def _layer(self, name: str, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        x, weight, bias, *rest = (*args, *(given.pop(k, None) for k in ("weight", "bias")[len(args) - 1 :]))
        layer = _Layer(lambda x, w: func(x, w, None, *rest, **given), x, weight, name.startswith("conv_transpose"))
        rule = self.dense if name == "linear" else self.convolution
        output = self._attach(layer, rule, _plain(func, (x, weight, bias, *rest), given))
        output._folds = (layer, rule)  # type: ignore[attr-defined]
        return output

    def _norm(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
        x, output = args[0], _plain(func, args, given)
        folds: tuple[_Layer, Rule] | None = getattr(x, "_folds", None)
        running = args[1] if len(args) > 1 else given.get("running_mean")
        if folds is None or folds[0].transposed or running is None:
            return _attached(output, lambda relevance: (relevance,), x)
        ends = x.new_zeros(2, x.shape[1])
        ends[1] = 1
        with torch.no_grad():
            slope = func(ends, *args[1:], **given).diff(dim=0)[0]
        return self._attach(folds[0].steeper(slope), folds[1], output)

    def _attach(self, layer: _Layer, rule: Rule, output: Tensor) -> Tensor:
        split = layer.positive if rule == "positive" else layer.all
        return _attached(output, lambda relevance: (split(relevance, output, self.epsilon),), layer.x)

    def _sum(self, func: Any, args: tuple[Any, ...], given: dict[str, Any], sign: int) -> Tensor:
        output, b = _plain(func, args, given), sign * given.get("alpha", 1)

        def back(relevance: Tensor) -> tuple[Tensor, ...]:
            share = relevance / _steady(output, self.epsilon)
            return tuple((t.detach() * f * share).sum_to_size(t.shape) for t, f in zip(args, (1, b), strict=True))

        return _attached(output, back, *args)


@dataclass(frozen=True, eq=False)
class _Layer:
    """Something linear, as it was called."""

    call: Linear
    x: Tensor
    weight: Tensor | None = None
    transposed: bool = False

    def steeper(self, slope: Tensor) -> _Layer:
        """With its outputs multiplied by a slope, one a channel."""
        assert self.weight is not None
        return _Layer(self.call, self.x, self.weight.detach() * slope.view(-1, *[1] * (self.weight.ndim - 1)))

    def all(self, relevance: Tensor, output: Tensor, epsilon: float) -> Tensor:
        """R_i = sum_j a_i w_ij R_j / (output_j + epsilon)."""
        weight = torch.empty(0) if self.weight is None else self.weight.detach()
        return self._through(self.x.detach(), weight, relevance / _steady(output, epsilon))

    def positive(self, relevance: Tensor, output: Tensor, epsilon: float) -> Tensor:
        """R_i = sum_j (a_i w_ij)^+ R_j / (sum_i (a_i w_ij)^+ + epsilon); nothing where nothing is positive."""
        assert self.weight is not None
        x, w = self.x.detach(), self.weight.detach()
        pairs = ((x.clamp_min(0), w.clamp_min(0)), (x.clamp_max(0), w.clamp_max(0)))
        total = torch.stack([self.call(*pair) for pair in pairs]).sum(0)
        share = relevance / (total + epsilon)
        return torch.stack([self._through(*pair, share) for pair in pairs]).sum(0)

    def _through(self, x: Tensor, weight: Tensor, share: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.requires_grad_()
            (back,) = torch.autograd.grad(self.call(x, weight), x, share)
        return x.detach() * back


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, back: Callable[[Tensor], tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
        ctx.back = back
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        return None, None, *ctx.back(relevance[0])


def _attached(output: Tensor, back: Callable[[Tensor], tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
    tied: Tensor = _Tied.apply(output, back, *inputs)  # type: ignore[no-untyped-call]
    return tied


def _product(name: str, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
    signals = [a for a in args[:2] if _carries(a) and not getattr(a, "_gates", False)]
    if not signals and not all(map(_carries, args[:2])):
        return _plain(func, args, given)  # a gate on what nobody asks the relevance of
    if len(signals) != 1 or ("div" in name and signals[0] is not args[0]):
        raise _refusal(name)
    return _attached(_plain(func, args, given), lambda relevance: (relevance.sum_to_size(signals[0].shape),), signals[0])


def _plain(func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
    """The result in a tensor of its own: operations that write into their input must not spoil what others still read."""
    with torch.no_grad():
        first = args[0].detach().clone() if isinstance(args[0], Tensor) else args[0]
        result: Tensor = func(first, *args[1:], **given)
    return result


def _without_rule(name: str, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    found = None if name == "__setitem__" else func(*args, **given)
    if found is None or any(map(_carries, tree_leaves(found))):
        raise _refusal(name)
    return found  # sizes, comparisons


def _refusal(name: str) -> InputError:
    return InputError(f"Relevance propagation has no rule for the operation {name}; use another criterion for this model.")


def _named(word: str, given: dict[str, Any]) -> tuple[Any, ...]:
    return (given.pop(word),) if word in given else ()


def _carries(value: Any) -> bool:
    """Whether relevance flows through it: activations, not parameters and views of them, which ask for gradients as well."""
    return (
        isinstance(value, Tensor)
        and value.requires_grad
        and not isinstance(value, nn.Parameter)
        and not isinstance(value._base, nn.Parameter)
    )


def _steady(z: Tensor, epsilon: float) -> Tensor:
    return z + torch.where(z < 0, -epsilon, epsilon)


def _name(func: Any) -> str:
    name = str(getattr(func, "__name__", func))
    return name if name.endswith("__") else name.rstrip("_")

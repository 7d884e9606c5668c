"""BatchNorm by running statistics is a factor and a summand a channel: both can be the convolution's own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """What BatchNorm computes with in evaluation mode, each tensor (channels,); `weight` and `bias` where it is affine."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    @property
    def key(self) -> tuple[object, ...]:
        """What two norms have in common that are the same."""
        return *(None if t is None else id(t) for t in (self.mean, self.variance, self.weight, self.bias)), self.eps


def folded(weight: Tensor, bias: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """Weight (out, ...) and bias (out,) in float64 of the convolution that gives what BatchNorm makes of its answer.

    Zeros of the weight stay zeros.
    """
    scale = (norm.variance.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.mean.detach().double() * scale
    if bias is not None:
        shift = shift + bias.detach().double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return weight.detach().double() * scale.reshape(-1, *[1] * (weight.dim() - 1)), shift

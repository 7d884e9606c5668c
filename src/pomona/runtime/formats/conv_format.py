"""What every packed convolution weight has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import plain
from pomona.native.told import Told
from pomona.vocabulary import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a kernel goes over a map: strides, zeros around, distances between taps (each height, width), and groups."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, stride: int | Pair = 1, padding: int | Pair = 0, dilation: int | Pair = 1, groups: int = 1) -> Self:
        """From what nn.Conv2d takes, but padding by name. Raises InputError for numbers that make no convolution."""
        found = cls(_pair(stride, "stride"), _pair(padding, "padding"), _pair(dilation, "dilation"), groups)
        if min(*found.stride, *found.dilation, groups) < 1 or min(found.padding) < 0:
            raise InputError(f"Stride, dilation and groups must be at least 1 and padding at least 0; got {found}.")
        return found

    def output(self, kernel: Pair, size: Pair) -> Pair:
        """Height and width of the output map for an input map of this size; below 1 where the kernel does not fit."""
        reach = (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1 for i in (0, 1))
        height, width = (r // s + 1 for r, s in zip(reach, self.stride, strict=True))
        return height, width


@dataclass(frozen=True, eq=False)
class ConvFormat(ABC):
    """A float32 weight of `shape` (out, in / groups, kernel height, kernel width) in a layout that kernels read."""

    name: ClassVar[str]

    shape: tuple[int, int, int, int]
    geometry: Geometry

    @classmethod
    @abstractmethod
    def pack(
        cls, weight: Tensor, stride: int | Pair = 1, padding: int | Pair = 0, dilation: int | Pair = 1, groups: int = 1
    ) -> Self:
        """The packed form of a float weight (out, in / groups, kh, kw); what is not exactly zero lives.

        Raises InputError for other shapes, NaN or infinities, or a geometry that fits no weight of this shape.
        """

    @abstractmethod
    def dense(self) -> Tensor:
        """The float32 weight (out, in / groups, kh, kw), exact."""

    @abstractmethod
    def conv(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        relu: bool = False,
        threads: int | None = None,
    ) -> Tensor:
        """The convolution of x, plus bias, plus residual, then ReLU where asked for, by a kernel, else by torch.

        x float32 (batch, in, height, width); bias (out,); residual and the result (batch, out, height', width'). NaN goes through
        ReLU as in torch. `threads` defaults to torch's. Raises InputError where anything has another shape, dtype or device, or
        where the kernel is larger than the padded map.
        """

    @abstractmethod
    def layer(self) -> Told:
        """The parts as a kernel reads them, for who needs none of the checks of `conv` at every call."""

    @abstractmethod
    def parts(self) -> Mapping[str, Tensor]:
        """The tensors that it consists of, by name: with `name`, `shape` and `geometry` all that there is to store."""

    @classmethod
    @abstractmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int, int, int], geometry: Geometry) -> Self:
        """From what `parts` gave, perhaps through a file: everything is checked, so that no kernel can leave its bounds.

        Raises InputError where anything does not belong together.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts().values())


def dense_conv(weight: Tensor, geometry: Geometry, x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """What every `conv` computes, by torch."""
    g = geometry
    y = F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups)
    if residual is not None:
        y += residual
    return F.relu_(y) if relu else y


def checked_conv_weight(weight: Tensor, geometry: Geometry, layout: str) -> Tensor:
    """The weight as contiguous float32 on the CPU. Raises InputError unless a layout can be made of it."""
    if weight.dim() != 4 or not weight.is_floating_point():
        raise InputError(
            f"{layout} packs a floating-point (out, in / groups, kh, kw); got {weight.dtype} of shape {tuple(weight.shape)}."
        )
    checked_conv_shape((*weight.shape,), geometry, layout)  # type: ignore[arg-type]
    weight = weight.detach().to("cpu", torch.float32).contiguous()
    if not bool(weight.isfinite().all()):
        raise InputError(f"{layout} cannot pack a weight with NaN or infinities in it.")
    return weight


def checked_conv_shape(shape: tuple[int, int, int, int], geometry: Geometry, layout: str) -> None:
    """Raises InputError unless a convolution of this geometry can have a weight of this shape."""
    if shape[0] % geometry.groups:
        raise InputError(f"{layout}: {shape[0]} output channels do not divide into {geometry.groups} groups.")
    if min(shape) < 1:
        raise InputError(
            f"{layout}: a convolution needs at least one channel on either side and one tap; got a weight of {shape}."
        )


def checked_map(x: Tensor, shape: tuple[int, int, int, int], geometry: Geometry) -> Tensor:
    """X as contiguous float32 (batch, in, height, width). Raises InputError where it does not fit the weight."""
    channels = shape[1] * geometry.groups
    if x.dim() != 4 or x.shape[1] != channels or x.dtype is not torch.float32 or not x.is_cpu:
        raise InputError(
            f"A packed convolution of shape {shape} takes float32 (batch, {channels}, height, width) on the CPU; "
            f"got {x.dtype} {tuple(x.shape)} on {x.device}."
        )
    return plain(x)


@lru_cache(maxsize=512)
def output_size(shape: tuple[int, int, int, int], geometry: Geometry, size: Pair) -> Pair:
    """Height and width of the result for maps of this size. Raises InputError where there are none."""
    found = geometry.output((shape[2], shape[3]), size)
    if min(*found, *size) < 1:
        raise InputError(f"A kernel of {tuple(shape[2:])} with {geometry} does not fit a map of {size}.")
    return found


def _pair(value: int | Pair, what: str) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise InputError(f"The {what} of a packed convolution is one whole number or two; got {value!r}.")
    return pair[0], pair[1]

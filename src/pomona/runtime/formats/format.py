"""What every packed weight has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import plain
from pomona.native.layer import Layer
from pomona.native.told import told_by
from pomona.runtime.formats.addend import checked_addend
from pomona.vocabulary import InputError


@dataclass(frozen=True, eq=False)
class Format(ABC):
    """A weight of `shape` (rows, columns) in a layout that kernels read.

    `values` says what the survivors are stored as: "f32", "bf16" or "int8" (one float32 scale a row, round to nearest; the
    activations are then quantised on the fly, one scale a row of x). Packing what `dense` gives back changes nothing.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]  # the `values` that there are kernels for

    shape: tuple[int, int]
    values: str

    @classmethod
    @abstractmethod
    def pack(cls, weight: Tensor, values: str = "f32") -> Self:
        """The packed form of a float weight (rows, columns); what is not exactly zero lives.

        Raises InputError for other shapes, NaN or infinities, an unknown kind of values, or a weight that the layout cannot hold.
        """

    @abstractmethod
    def dense(self) -> Tensor:
        """The float32 weight (rows, columns) that the kernels multiply by; exact for "f32"."""

    def linear(self, x: Tensor, bias: Tensor | None = None, threads: int | None = None) -> Tensor:
        """X W^T + bias: float32 (batch, columns) to (batch, rows), by a kernel, else by torch. `threads` defaults to torch's.

        Raises InputError where x or bias has another shape, dtype or device.
        """
        x = checked_input(x, self.shape)
        bias = None if bias is None else checked_addend(bias, self.shape[:1], "bias")
        y = self.layer().run(x, None if bias is None else bias.data_ptr(), threads)
        return self._by_torch(x, bias) if y is None else y

    def layer(self) -> Layer:
        """The parts as a kernel reads them, for who needs none of the checks of `linear` at every call."""
        return told_by(self, self._layer)

    @abstractmethod
    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """What `linear` gives where there are no kernels."""

    @abstractmethod
    def _layer(self) -> Layer:
        """The parts as a kernel reads them, checked. Raises InputError where a dtype, shape or stride is not what it reads."""

    @abstractmethod
    def parts(self) -> Mapping[str, Tensor]:
        """The tensors that it consists of, by name: with `name`, `shape` and `values` all that there is to store."""

    @classmethod
    @abstractmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """From what `parts` gave, perhaps through a file: everything is checked, so that no kernel can leave its bounds.

        Raises InputError where anything does not belong together.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts().values())


def checked_weight(weight: Tensor, values: str, kinds: tuple[str, ...], layout: str) -> Tensor:
    """The weight as contiguous float32 on the CPU. Raises InputError unless a layout can be made of it."""
    if weight.dim() != 2 or not weight.is_floating_point():
        raise InputError(f"{layout} packs a floating-point matrix; got {weight.dtype} of shape {tuple(weight.shape)}.")
    if values not in kinds:
        raise InputError(f"{layout} stores values as {', '.join(kinds)}, not {values!r}.")
    weight = weight.detach().to("cpu", torch.float32).contiguous()
    if not bool(weight.isfinite().all()):
        raise InputError(f"{layout} cannot pack a weight with NaN or infinities in it.")
    return weight


def checked_input(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """X as contiguous float32 (batch, columns). Raises InputError where it does not fit a weight of this shape."""
    columns = shape[1]
    if x.dim() != 2 or x.shape[1] != columns or x.dtype is not torch.float32 or not x.is_cpu:
        raise InputError(
            f"A packed weight of shape {shape} takes float32 (batch, {columns}) on the CPU; "
            f"got {x.dtype} {tuple(x.shape)} on {x.device}."
        )
    return plain(x)

"""Products with packed weights as operations of torch, so that torch.compile and torch.export take them as they are.

Defined by `torch.library.define` and not by `custom_op`: the same for compilers, a third of the time in eager mode.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from pomona.runtime.formats.conv_format import ConvFormat
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.packed import made, unflat
from pomona.vocabulary import InputError

_WEIGHT = "Tensor[] parts, str[] names, str layout, str values, int[] shape, int[] geometry"
torch.library.define("pomona::sparse_linear", f"(Tensor x, Tensor? bias, {_WEIGHT}) -> Tensor")
torch.library.define("pomona::sparse_conv2d", f"(Tensor x, Tensor? bias, Tensor? residual, bool relu, {_WEIGHT}) -> Tensor")
torch.library.define("pomona::sparse_dense", f"({_WEIGHT}) -> Tensor")


@dataclass(frozen=True, eq=False)
class _Seen:
    """A weight that has been checked: its first part, and the marks by which the parts are known to be still the same."""

    first: weakref.ref[Tensor]
    marks: list[Any]
    format: Format | ConvFormat


_seen: dict[int, _Seen] = {}  # by the id of the first part; an entry goes when that part goes


def _checked(parts: list[Tensor], names: list[str], layout: str, values: str, shape: list[int], geometry: list[int]) -> Any:
    """The format of these parts: checked in full when they are first seen or have been written to, not at every call."""
    first, marks = parts[0], [layout, values, *shape, *geometry]
    for part in parts:
        marks += (part.data_ptr(), 0 if part.is_inference() else part._version)
    key = id(first)
    seen = _seen.get(key)
    if seen is None or seen.first() is not first or seen.marks != marks:
        # Of aliases: were it of the parts themselves, a weight would keep itself alive.
        found = made([part.detach() for part in parts], names, layout, values, shape, geometry)
        seen = _seen[key] = _Seen(weakref.ref(first, lambda gone: _forget(key, gone)), marks, found)
    return seen.format


def _forget(key: int, gone: weakref.ref[Tensor]) -> None:
    if key in _seen and _seen[key].first is gone:  # else another tensor has got the number since
        del _seen[key]


def _linear(x: Tensor, bias: Tensor | None, parts: list[Tensor], *about: Any) -> Tensor:
    found: Tensor = _checked(parts, *about).linear(x, bias)
    return found


def _fake_linear(
    x: Tensor, bias: Tensor | None, parts: list[Tensor], names: Any, layout: str, values: str, shape: Any, _: Any
) -> Tensor:
    return x.new_empty(x.shape[0], shape[0])


def _conv2d(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, parts: list[Tensor], *about: Any
) -> Tensor:  # fmt: skip
    found: Tensor = _checked(parts, *about).conv(x, bias, residual, relu)
    return found


def _fake_conv2d(
    x: Tensor, bias: Any, residual: Any, relu: bool, parts: Any, names: Any, layout: str, values: str, shape: Any, geometry: Any
) -> Tensor:
    height, width = unflat(geometry).output((shape[2], shape[3]), (x.shape[2], x.shape[3]))
    return x.new_empty(x.shape[0], shape[0], height, width)


def _dense(parts: list[Tensor], *about: Any) -> Tensor:
    found: Tensor = _checked(parts, *about).dense()
    return found


def _fake_dense(parts: list[Tensor], names: Any, layout: str, values: str, shape: list[int], geometry: Any) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _elsewhere(x: Tensor, *about: Any) -> Tensor:
    raise InputError(f"Packed weights are multiplied on the CPU; the input is on {x.device}.")


torch.library.impl("pomona::sparse_linear", "CPU", _linear)
torch.library.impl("pomona::sparse_conv2d", "CPU", _conv2d)
torch.library.impl("pomona::sparse_dense", "CPU", _dense)
torch.library.impl("pomona::sparse_linear", "CUDA", _elsewhere)
torch.library.impl("pomona::sparse_conv2d", "CUDA", _elsewhere)
torch.library.register_fake("pomona::sparse_linear", _fake_linear)
torch.library.register_fake("pomona::sparse_conv2d", _fake_conv2d)
torch.library.register_fake("pomona::sparse_dense", _fake_dense)
sparse_dense = torch.ops.pomona.sparse_dense.default


def sparse_linear(x: Tensor, bias: Tensor | None, parts: list[Tensor], *about: Any) -> Tensor:
    """X W^T + bias for float32 x (batch, columns), without a gradient."""
    found: Tensor = (_linear if _eager(x) else torch.ops.pomona.sparse_linear.default)(x, bias, parts, *about)
    return found


def sparse_conv2d(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, parts: list[Tensor], *about: Any
) -> Tensor:  # fmt: skip
    """The convolution of float32 x (batch, channels, height, width), as `ConvFormat.conv`, without a gradient."""
    found: Tensor = (_conv2d if _eager(x) else torch.ops.pomona.sparse_conv2d.default)(x, bias, residual, relu, parts, *about)
    return found


def _eager(x: Tensor) -> bool:
    """Whether nobody listens: then the way through torch's dispatcher, a third of a small layer's time, can be left out."""
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.is_cpu
        and not is_in_torch_dispatch_mode()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )

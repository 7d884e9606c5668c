"""A mask applied to values."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import library, threads_of

_KERNELS = {torch.float32: "apply_32", torch.float64: "apply_64"}


def applied(values: Tensor, mask: Tensor) -> Tensor:
    """A new tensor: the values where `mask`, bool of their shape, is True, and zeros elsewhere, whatever stood there.

    By a kernel, at the speed of memory, where both are contiguous and on the CPU and the values float32 or float64; by torch
    elsewhere.

    >>> applied(torch.tensor([1.0, float("nan")]), torch.tensor([True, False]))
    tensor([1., 0.])
    """
    if _able(values, mask):
        out = torch.empty_like(values)
        _run(values.detach(), mask, out)
        return out
    return values.detach().masked_fill(~mask, 0)


@torch.no_grad()
def apply_(values: Tensor, mask: Tensor) -> Tensor:
    """The same in place."""
    if not _able(values, mask):
        return values.masked_fill_(~mask, 0)
    _run(values, mask, values)
    # Torch has not seen the write: whoever differentiates through these values must be told.
    torch.autograd.graph.increment_version(values)
    return values


def _able(values: Tensor, mask: Tensor) -> bool:
    """Whether there is a kernel for it. Subclasses of tensors mean something else by their numbers."""
    plain = type(values) in (Tensor, torch.nn.Parameter) and values.dtype in _KERNELS
    return (
        plain
        and values.is_cpu
        and mask.is_cpu
        and mask.dtype == torch.bool
        and values.shape == mask.shape
        and values.is_contiguous()
        and mask.is_contiguous()
        and library().isa is not None
    )


def _run(values: Tensor, mask: Tensor, out: Tensor) -> None:
    kernel, kind = library().kernel(_KERNELS[values.dtype]), values.dtype
    assert kernel is not None  # asked before
    flat = (values.numel(),)
    given, made = values.detach().view(-1), out.detach().view(-1)
    kernel(
        array(given, kind, flat, "values"), array(mask.view(-1), torch.bool, flat, "mask"), size(*flat),
        array(made, kind, flat, "out"), threads_of(None),
    )  # fmt: skip

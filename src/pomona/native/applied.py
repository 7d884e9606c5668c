"""A mask applied to values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import threads_of
from pomona.native.plain import plain_kernel


def applied(values: Tensor, mask: Tensor) -> Tensor:
    """A new tensor: the values where `mask`, bool of their shape, is True, and zeros elsewhere, whatever stood there.

    By a kernel, at the speed of memory, where both are contiguous and on the CPU and the values float32 or float64; by torch
    elsewhere.

    >>> applied(torch.tensor([1.0, float("nan")]), torch.tensor([True, False]))
    tensor([1., 0.])
    """
    kernel = _kernel(values, mask)
    if kernel is None:
        return values.detach().masked_fill(~mask, 0)
    out = torch.empty_like(values)
    _run(kernel, values, mask, out)
    return out


@torch.no_grad()
def apply_(values: Tensor, mask: Tensor) -> Tensor:
    """The same in place."""
    kernel = _kernel(values, mask)
    if kernel is None:
        return values.masked_fill_(~mask, 0)
    _run(kernel, values, mask, values)
    # Torch has not seen the write: whoever differentiates through these values must be told.
    torch.autograd.graph.increment_version(values)
    return values


def _kernel(values: Tensor, mask: Tensor) -> Callable[..., int] | None:
    fits = mask.is_cpu and mask.dtype == torch.bool and mask.is_contiguous() and values.shape == mask.shape
    return plain_kernel("apply", values) if fits else None


def _run(kernel: Callable[..., int], values: Tensor, mask: Tensor, out: Tensor) -> None:
    kind, flat = values.dtype, (values.numel(),)
    given, made = values.detach().view(-1), out.detach().view(-1)
    kernel(
        array(given, kind, flat, "values"), array(mask.view(-1), torch.bool, flat, "mask"), size(*flat),
        array(made, kind, flat, "out"), threads_of(None),
    )  # fmt: skip

"""The product with a weight in spans as an operation of torch, for torch.compile and torch.export."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pomona.runtime.gpu.spans import Spans

FEW = 16  # rows of x for the kernel; more of them are worth a dense weight and cuBLAS

torch.library.define(
    "pomona::spans_linear", "(Tensor x, Tensor? bias, Tensor bits, Tensor living, Tensor starts, int tall, int parts) -> Tensor"
)


def _plain(x: Tensor, bias: Tensor | None, bits: Tensor, living: Tensor, starts: Tensor, tall: int, parts: int) -> Tensor:
    """X W^T + bias by torch's own product, on any device."""
    weight = Spans((bits.shape[1], x.shape[1]), bits, living, starts).dense()
    return F.linear(x, weight, bias)


def _by_kernel(x: Tensor, bias: Tensor | None, bits: Tensor, living: Tensor, starts: Tensor, tall: int, parts: int) -> Tensor:
    if not 1 <= len(x) <= FEW or not bits.numel():
        return _plain(x, bias, bits, living, starts, tall, parts)
    from pomona.runtime.gpu.kernel import launch

    with torch.cuda.device(x.device):  # Triton launches on the current one, wherever the tensors are
        return launch(x.contiguous(), bias, bits, living, starts, tall, parts)


def _fake(x: Tensor, bias: Tensor | None, bits: Tensor, living: Tensor, starts: Tensor, tall: int, parts: int) -> Tensor:
    return x.new_empty(x.shape[0], bits.shape[1])


torch.library.impl("pomona::spans_linear", "CPU", _plain)
torch.library.impl("pomona::spans_linear", "CUDA", _by_kernel)
torch.library.register_fake("pomona::spans_linear", _fake)
spans_linear = torch.ops.pomona.spans_linear.default

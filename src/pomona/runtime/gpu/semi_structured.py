"""2:4 on sparse tensor cores: torch's own product, its rules told before it is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pomona.runtime.sparse.reading import told_reading
from pomona.vocabulary import InputError, first_line


@dataclass(frozen=True)
class Sizes:
    """What a weight's rows and columns, and the rows of x, must be multiples of."""

    rows: int
    columns: int
    batch: int


# float32 and int8 exist, too: the first as 1:2, the second for products of integers, which no nn.Linear computes.
SIZES: Mapping[str, Mapping[torch.dtype, Sizes]] = {
    "cusparselt": dict.fromkeys((torch.float16, torch.bfloat16), Sizes(16, 16, 8)),
    "cutlass": dict.fromkeys((torch.float16, torch.bfloat16), Sizes(32, 64, 8)),
}


def library() -> str:
    """Which of its two libraries torch compresses with here: cuSPARSELt where this build has it, else CUTLASS."""
    return "cusparselt" if torch.backends.cusparselt.is_available() else "cutlass"


def unfit(weight: Tensor, library: str) -> str | None:
    """Why a weight cannot run as 2:4, as the end of a sentence about its layer; None where it can."""
    sizes = SIZES[library].get(weight.dtype)
    if sizes is None:
        kind = str(weight.dtype).removeprefix("torch.")
        return f"its weight is {kind}, and 2:4 runs in bfloat16 and float16 (--values bf16)"
    rows, columns = weight.shape
    if rows % sizes.rows or columns % sizes.columns or not weight.numel():
        return f"its weight is {rows}x{columns}, and 2:4 takes multiples of {sizes.rows}x{sizes.columns}"
    most = int((weight.detach() != 0).reshape(-1, 4).sum(1).max())
    return f"{most} of four weights side by side live, not 2" if most > 2 else None


def compress(weight: Tensor, library: str) -> Tensor:
    """The weight as torch's semi-structured tensor. Raises InputError where torch refuses it."""
    kinds: Mapping[str, Any] = {
        "cusparselt": torch.sparse.SparseSemiStructuredTensorCUSPARSELT,
        "cutlass": torch.sparse.SparseSemiStructuredTensorCUTLASS,
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The PyTorch API of SparseSemiStructuredTensor")  # that it is a prototype
            found: Tensor = kinds[library].from_dense(weight.detach().contiguous())
    # What a build lacks shows only here, and in any words.
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"torch does not compress a weight of {tuple(weight.shape)} to 2:4: {first_line(error)}") from error
    return found


def with_rows(x: Tensor, multiple: int) -> Tensor:
    """X (rows, columns) with zeros below, up to the next multiple of rows."""
    return F.pad(x, (0, 0, 0, -len(x) % multiple))


class SemiStructuredLinear(nn.Module):
    """x W^T + bias for x (..., in_features) of the weight's type, W compressed to 2:4.

    Rows of x are filled up with zeros to what sparse tensor cores take, and cut off again. Frozen, tied to its device and type,
    and not in the state dict: torch's compressed tensors cannot be saved for another library.
    """

    bias: Tensor | None

    def __init__(self, layer: nn.Linear, library: str, compress: Callable[[Tensor, str], Tensor] = compress) -> None:
        super().__init__()
        self.out_features, self.in_features = layer.out_features, layer.in_features
        self.batch = SIZES[library][layer.weight.dtype].batch
        self.kind = layer.weight.dtype
        self._compressed = compress(layer.weight, library)  # no buffer: `to` and `state_dict` do not know such tensors
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The compressed weight (out_features, in_features)."""
        told_reading(self)
        return self._compressed

    def forward(self, x: Tensor) -> Tensor:
        """Raises InputError where x is not (..., in_features) of the weight's type, or wants a gradient."""
        if not x.dim() or x.shape[-1] != self.in_features or x.dtype != self.kind:
            raise InputError(f"This layer takes {self.kind} (..., {self.in_features}); got {x.dtype} of shape {tuple(x.shape)}.")
        if x.requires_grad and torch.is_grad_enabled():
            raise InputError("A layer compressed to 2:4 has no gradients; call the model under torch.no_grad().")
        rows = x.reshape(x.shape[:-1].numel(), self.in_features)
        if not len(rows):
            return x.new_empty(*x.shape[:-1], self.out_features)
        y = F.linear(with_rows(rows, self.batch), self._compressed, self.bias)
        return y[: len(rows)].reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """As nn.Linear tells itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, 2:4"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        return self

"""How large a model is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pomona.native.living import living

# Narrow ones first, as the format orders them.
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}


@dataclass(frozen=True)
class Counts:
    """Sizes of one model. `nonzeros` counts the parameters' values that are not 0; `bytes` is the safetensors file's size.

    `macs` are the multiply-accumulates of one forward pass on the example inputs, None where no graph was given.
    """

    params: int
    nonzeros: int
    bytes: int
    macs: int | None = None


class Priced(Protocol):
    """Something that knows the costs of a forward pass: a traced model."""

    def costs(self) -> PriceTag:
        """The costs as traced."""
        ...


class PriceTag(Protocol):
    """Costs of one forward pass."""

    @property
    def macs(self) -> float:
        """Multiply-accumulates."""
        ...


def count(model: nn.Module, graph: Priced | None = None) -> Counts:
    """Parameters (tied ones once), non-zeros, bytes on disk and, from the model's own `graph`, MACs."""
    parameters = list(model.parameters())
    nonzeros = sum(living(p) for p in parameters)
    return Counts(
        sum(p.numel() for p in parameters), nonzeros, file_bytes(model), None if graph is None else int(graph.costs().macs)
    )


def file_bytes(model: nn.Module) -> int:
    """The size of the model's weights and buffers as a safetensors file, without writing one; shared storage counts once.

    Such a file is the length of its header (8 bytes), the header as JSON, padded to a multiple of 8, and the values,
    wider dtypes first and by name within one.
    """
    tensors = {name: (_DTYPES[t.dtype], tuple(t.shape), t.nbytes) for name, t in _firsts(model.state_dict())}
    order = list(_DTYPES.values())
    header, start = {}, 0
    for name in sorted(tensors, key=lambda name: (-order.index(tensors[name][0]), name)):
        dtype, shape, size = tensors[name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + start


def distinct(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state without second names of the same values, contiguous: what a safetensors file can hold."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in _firsts(state)}


def _firsts(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        # Empty tensors have no storage and would all look like the same one.
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        if seen.setdefault(key, name) == name:
            yield name, tensor

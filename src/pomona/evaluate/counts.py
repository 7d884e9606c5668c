"""How large a model is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor, nn


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
    nonzeros = sum(int(p.count_nonzero()) for p in parameters)
    return Counts(
        sum(p.numel() for p in parameters), nonzeros, file_bytes(model), None if graph is None else int(graph.costs().macs)
    )


def file_bytes(model: nn.Module) -> int:
    """The size of the model's weights and buffers as a safetensors file, found by writing one; shared storage counts once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(distinct(model.state_dict()), path)
        return path.stat().st_size


def distinct(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state without second names of the same values, contiguous: what a safetensors file can hold."""
    seen: dict[tuple[object, ...], str] = {}
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        # Empty tensors have no storage and would all look like the same one.
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        if seen.setdefault(key, name) == name:
            kept[name] = tensor.detach().cpu().contiguous()
    return kept

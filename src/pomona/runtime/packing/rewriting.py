"""The weights of a folder written anew: packed or plain, in another type, in files of another size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.runtime.packing.bitmask import Packed, pack
from pomona.runtime.packing.checkpoint import Checkpoint, write_checkpoint
from pomona.vocabulary import InputError, Progress, Silent


def rewrite(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    packed: bool,
    dtype: torch.dtype | None = None,
    largest: int = 10**9,
    masks: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the tensors of a checkpoint into a folder, one after the other; what is smaller packed is packed where `packed` says.

    `dtype` is that of floating-point weights (None: as they are stored), `largest` the bytes of one file, `masks` (bool, by
    name, in the weight's shape) which weights live; where there is no mask, all but zeros do, which have no sign then. Returns
    `files`, `bytes`, `weights` (how many were packed), `packed_bytes`, and `share`: these bytes as a share of what the same
    weights take dense. Raises InputError where a value does not fit the type or a mask does not fit a weight.
    """
    tally = {"weights": 0, "packed_bytes": 0, "dense_bytes": 0}

    def rewritten() -> Iterator[tuple[str, Tensor | Packed]]:
        with (progress or Silent()).stage("writing weights", len(checkpoint.names)) as stage:
            for name in checkpoint.names:
                stored = checkpoint.tensor(name)
                tensor = cast(dtype, stored, name)
                small = _packed(checkpoint, name, stored, tensor, masks or {}) if packed else None
                if small is not None:
                    tally["weights"] += 1
                    tally["packed_bytes"] += small.nbytes
                    tally["dense_bytes"] += tensor.nbytes
                yield name, tensor if small is None else small
                stage.advance()

    said = {name: text for name, text in checkpoint.metadata.items() if name != "pomona_packed"}
    files = write_checkpoint(folder, rewritten(), said, largest)
    dense = tally.pop("dense_bytes")
    sizes = {"files": [file.name for file in files], "bytes": sum(file.stat().st_size for file in files)}
    return {**sizes, **tally, "share": tally["packed_bytes"] / dense if dense else None}


def cast(dtype: torch.dtype | None, tensor: Tensor, name: str) -> Tensor:
    """A weight in another floating type (None: as it is). Raises InputError where the type cannot hold one of its values."""
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    found = tensor.to(dtype)
    if bool((found.isinf() & tensor.isfinite()).any()):
        raise InputError(f"{name} has values that {str(dtype).removeprefix('torch.')} cannot hold; use bfloat16.")
    return found


def _packed(checkpoint: Checkpoint, name: str, stored: Tensor, tensor: Tensor, masks: Mapping[str, Tensor]) -> Packed | None:
    """The packed weight where that saves bytes; norms and biases are left alone, as readers expect them."""
    if tensor.dim() < 2 or not tensor.is_floating_point():
        return None
    # What lives is asked before the cast: a value that rounds to zero lives on. Zeros are -0.0 where a mask was multiplied.
    lives = masks.get(name)
    if lives is None or lives.shape != tensor.shape:
        lives = checkpoint.alive(name) if name in checkpoint.packed else stored.ne(0)
    small = pack(tensor, lives)
    return small if small.nbytes < tensor.nbytes else None

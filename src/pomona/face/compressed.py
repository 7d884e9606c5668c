"""A saved folder with its sparse weights as compressed-tensors stores them: bits, values, offsets and shape."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.face.folders import whole_folder
from pomona.face.packing import LARGEST, declare_type
from pomona.runtime.interchange import of_compressed_tensors, to_compressed_tensors
from pomona.runtime.packing import INDEX, Checkpoint, weight_files
from pomona.runtime.packing.checkpoint import write_checkpoint
from pomona.runtime.packing.rewriting import cast
from pomona.vocabulary import InputError, Progress, Silent

_WEIGHT = ".weight"
_OURS = ("pomona.json", "plan.safetensors")  # what says that Pomona opens the folder, which is then for others


def export_compressed(
    source: Path, folder: Path, *, dtype: torch.dtype | None = None, largest: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """A new transformers folder with each matrix that gets smaller so in the format `sparse-bitmask` of compressed-tensors.

    It opens where compressed-tensors still reads sparse weights: up to its version 0.11, and in inference engines that carry
    the reader on. `dtype` is that of the weights, `largest` the bytes of a file (None: as stored, and 1 GB). Every weight is
    read back and compared before the folder gets its name. Returns `files`, `bytes`, `weights` (how many are compressed) and
    `share`, their bytes as a share of the dense ones. Raises InputError where the folder has no config of transformers, no
    safetensors weights, no weight that is sparse enough, or a value that does not fit the type; then nothing is written.
    """
    if not (source / "config.json").is_file():
        raise InputError(f"{source} has no config.json; compressed-tensors is read through transformers, which needs one.")
    old = {path.name for path in weight_files(source)} | {INDEX, *_OURS}
    checkpoint, tally = Checkpoint.of(source), {"weights": 0, "zeros": 0, "numbers": 0, "small": 0, "dense": 0}
    with whole_folder(folder) as target:
        for path in source.iterdir():
            if path.is_file() and path.name not in old:
                shutil.copy2(path, target / path.name)
        with (progress or Silent()).stage("writing weights", len(checkpoint.names)) as stage:

            def written() -> Iterator[tuple[str, Tensor]]:
                for name in checkpoint.names:
                    yield from _stored(name, cast(dtype, checkpoint.tensor(name), name), tally)
                    stage.advance()

            files = write_checkpoint(target, written(), {}, largest or LARGEST)
        if not tally["weights"]:
            raise InputError(f"No weight in {source} is sparse enough to be smaller compressed; prune it first.")
        _compare(Checkpoint.of(target), checkpoint, dtype)
        _declare(target / "config.json", checkpoint, Checkpoint.of(target), tally["zeros"] / tally["numbers"], dtype)
    sizes = {"files": [path.name for path in files], "bytes": sum((folder / path.name).stat().st_size for path in files)}
    return {**sizes, "weights": tally["weights"], "share": tally["small"] / tally["dense"]}


def _stored(name: str, tensor: Tensor, tally: dict[str, int]) -> Iterator[tuple[str, Tensor]]:
    """The four parts of a weight that gets smaller by it, else the weight."""
    if not name.endswith(_WEIGHT) or tensor.dim() != 2 or not tensor.is_floating_point():
        yield name, tensor
        return
    parts = to_compressed_tensors(tensor)
    tally["numbers"] += tensor.numel()
    tally["zeros"] += tensor.numel() - parts["compressed"].numel()
    small = sum(part.nbytes for part in parts.values())
    if small >= tensor.nbytes:
        yield name, tensor
        return
    tally["weights"] += 1
    tally["small"] += small
    tally["dense"] += tensor.nbytes
    for part, stored in parts.items():
        yield f"{name.removesuffix(_WEIGHT)}.{part}", stored


def _compare(written: Checkpoint, source: Checkpoint, dtype: torch.dtype | None) -> None:
    there = set(written.names)
    for name in source.names:
        layer, wanted = name.removesuffix(_WEIGHT), cast(dtype, source.tensor(name), name)
        parts = ("shape", "compressed", "bitmask", "row_offsets")
        found = (
            written.tensor(name)
            if name in there
            else of_compressed_tensors({part: written.tensor(f"{layer}.{part}") for part in parts})
        )
        if not torch.equal(found, wanted):
            raise InputError(f"{name} came back from compressed-tensors' layout with other numbers; no folder was written.")


def _declare(path: Path, source: Checkpoint, written: Checkpoint, sparsity: float, dtype: torch.dtype | None) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    compressed = [n for n in source.names if n not in set(written.names)]
    dense = [n for n in source.names if n in set(written.names) and n.endswith(_WEIGHT) and len(source.shape(n)) == 2]
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "dense",
        "sparsity_config": {
            "format": "sparse-bitmask",
            "global_sparsity": sparsity,
            "sparsity_structure": "unstructured",
            "targets": [name.removesuffix(_WEIGHT) for name in compressed],
            "ignore": [name.removesuffix(_WEIGHT) for name in dense],
        },
    }
    declare_type(config, dtype)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

"""Checkpoints without pickle: tensors in safetensors, everything else as JSON in its header, written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.vocabulary import Batch, InputError, write_atomically


def save(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree of dicts, lists, tuples, tensors, numbers, strings and None, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(tree, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, to_bytes(tensors, metadata={"tree": text}))


def load(path: Path) -> dict[str, Any]:
    """The inverse of `save`; raises InputError on a file that is not a whole checkpoint."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        tree: dict[str, Any] = _decode(json.loads(metadata["tree"]), tensors)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a readable checkpoint ({error}); remove it to start anew.") from None
    return tree


def values(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer that the model saves, by name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


@torch.no_grad()
def restore(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put saved values back, in place, bit for bit; names must be the model's own."""
    present = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    if present.keys() != saved.keys():
        odd = sorted(present.keys() ^ saved.keys())[0]
        raise InputError(f"The saved values are of another model: '{odd}' is in only one of the two.")
    for name, value in present.items():
        value.copy_(saved[name])


def fingerprint(model: nn.Module, settings: Mapping[str, Any], first: Batch) -> str:
    """What a run starts from, as a hash: equal only for the same weights, settings, input shapes and first targets."""
    inputs = [tuple(leaf.shape) for leaf in tree_leaves((first.args, dict(first.kwargs))) if isinstance(leaf, Tensor)]
    digest = hashlib.sha256(json.dumps([settings, inputs], sort_keys=True, default=str).encode())
    targets = {str(number): leaf for number, leaf in enumerate(tree_leaves(first.target))}
    for name, value in (model.state_dict() | targets).items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, Mapping):  # as pairs: optimiser states are keyed by integers
        return {"pairs": [[key, _encode(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(entry, tensors) for entry in value]}
    if isinstance(value, list):
        return [_encode(entry, tensors) for entry in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(_decode(entry, tensors) for entry in value["tuple"])
    return {key: _decode(entry, tensors) for key, entry in value["pairs"]}

"""The weights of a model in memory, as checkpoints hold them, and back from one, a tensor at a time."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from pomona.runtime.packing.checkpoint import Checkpoint
from pomona.vocabulary import InputError


def stored(model: nn.Module) -> dict[str, Tensor]:
    """What a file of weights holds of a model: its state without gaps, a shared tensor under the first of its names only.

    That is the name that transformers writes and other readers look for: `embed_tokens` before the `lm_head` tied to it.
    """
    first = first_names(model)
    state = model.state_dict()
    found = {name: state[name].contiguous() for name in dict.fromkeys(first.values())}
    owners = Counter(tensor.untyped_storage().data_ptr() for tensor in found.values())
    alone = {name: owners[tensor.untyped_storage().data_ptr()] == 1 for name, tensor in found.items()}
    return {name: tensor if alone[name] else tensor.clone() for name, tensor in found.items()}


def first_names(model: nn.Module) -> dict[str, str]:
    """The first name of every tensor in the state, by all its names."""
    held: dict[int, str] = {}
    return {name: held.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


@torch.no_grad()
def fill(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy every tensor of a checkpoint into the model, in place and in the model's own types.

    Raises InputError where names or shapes differ. A tensor that the model shares under several names need be there once.
    """
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    stored = set(checkpoint.names)
    filled = {_place(value) for name, value in state.items() if name in stored}
    if extra := [name for name in checkpoint.names if name not in state]:
        raise InputError(f"{extra[0]} is in the file and not in the model.")
    if missing := [name for name, value in state.items() if name not in stored and _place(value) not in filled]:
        raise InputError(f"{missing[0]} is in the model and not in the file.")
    for name in (name for name in state if name in stored):
        if checkpoint.shape(name) != tuple(state[name].shape):
            raise InputError(f"{name} is {checkpoint.shape(name)} in the file and {tuple(state[name].shape)} in the model.")
    for name in checkpoint.names:
        state[name].copy_(checkpoint.tensor(name))


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Where a tensor lies: the same for all names of a shared one."""
    return tensor.data_ptr(), tensor.shape

"""A model whose layers have biases that its class gives none: zeros, so it is the same function."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pomona.vocabulary import InputError


@dataclass(frozen=True)
class Biases:
    """What is to be added: parameters with their sizes, and the flags of the model's configuration that say so.

    A flag is a name or, in a configuration within the configuration, a path: `text_config.attention_bias`.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"sizes": dict(self.sizes), "flags": list(self.flags)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Biases:
        """The inverse."""
        return cls(told.get("sizes", {}), tuple(told.get("flags", ())))


@torch.no_grad()
def biased(model: nn.Module, biases: Biases) -> nn.Module:
    """A copy with these biases, zeros of the weights' type; everything else is shared with `model`, which is untouched.

    Those that are there stay as they are. Raises InputError where a module has no room for a bias.
    """
    made = deepcopy(model, {id(t): t for t in [*model.parameters(), *model.buffers()]})
    there = dict(model.named_parameters(remove_duplicate=False))
    for name, size in biases.sizes.items():
        if name in there and there[name].shape == (size,):
            continue
        owner, _, attribute = name.rpartition(".")
        if not takes_bias(made, name):
            raise InputError(f"{owner} cannot be given the bias {name}; use the model that the plan was made for.")
        module = made.get_submodule(owner)
        like = module.get_parameter("weight")
        zeros = torch.zeros(size, dtype=like.dtype, device=like.device)
        module.register_parameter(attribute, nn.Parameter(zeros, requires_grad=like.requires_grad))
    for module in made.modules():
        for flag in biases.flags:
            _raise(getattr(module, "config", None), flag)
    return made


def takes_bias(model: nn.Module, name: str) -> bool:
    """Whether a module has a weight, and a place for a parameter of this name that is empty."""
    owner, _, attribute = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        return False
    return module._parameters.get("weight") is not None and module._parameters.get(attribute, 0) is None


def _raise(config: Any, flag: str) -> None:
    *path, name = flag.split(".")
    for part in path:
        config = getattr(config, part, None)
    if getattr(config, name, None) is False:
        setattr(config, name, True)

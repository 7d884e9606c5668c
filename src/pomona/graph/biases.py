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
    for name, size in biases.sizes.items():
        owner, _, attribute = name.rpartition(".")
        if takes_bias(made, name):
            module = made.get_submodule(owner)
            like = module.get_parameter("weight")
            zeros = torch.zeros(size, dtype=like.dtype, device=like.device)
            module.register_parameter(attribute, nn.Parameter(zeros, requires_grad=like.requires_grad))
        elif not _has(made, name, size):  # nor under the other name of a module that has two
            raise InputError(f"{owner} cannot be given the bias {name}; use the model that the plan was made for.")
    for module in made.modules():
        for flag in biases.flags:
            _raise(getattr(module, "config", None), flag)
    return made


def takes_bias(model: nn.Module, name: str) -> bool:
    """Whether a module has a weight, and a place for a parameter of this name that is empty."""
    parameters = _beside(model, name)
    return parameters.get("weight") is not None and parameters.get(name.rpartition(".")[2], 0) is None


def _has(model: nn.Module, name: str, size: int) -> bool:
    found = _beside(model, name).get(name.rpartition(".")[2])
    return found is not None and found.shape == (size,)


def _beside(model: nn.Module, name: str) -> Mapping[str, nn.Parameter | None]:
    """The parameters of the module that holds, or would hold, this one; none where there is no such module."""
    try:
        return model.get_submodule(name.rpartition(".")[0])._parameters
    except AttributeError:
        return {}


def _raise(config: Any, flag: str) -> None:
    *path, name = flag.split(".")
    for part in path:
        config = getattr(config, part, None)
    if getattr(config, name, None) is False:
        setattr(config, name, True)

"""A tensor with several names becomes several tensors, where a method is to write something else under each."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from pomona.graph.infer import tied


@torch.no_grad()
def untied(model: nn.Module, names: Collection[str]) -> nn.Module:
    """A copy in which every further name of these tensors has a parameter of its own, of the same values.

    Everything else is shared with `model`, which is untouched. Configurations that say that word embeddings are tied say no
    longer so. What is not tied stays as it is.
    """
    made = deepcopy(model, {id(t): t for t in [*model.parameters(), *model.buffers()]})
    for alias, first in tied(model).items():
        if first in names:
            owner, _, attribute = alias.rpartition(".")
            module, old = made.get_submodule(owner), made.get_parameter(alias)
            module.register_parameter(attribute, nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad))
    if not names:
        return made
    for module in made.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
    return made

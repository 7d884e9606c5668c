"""A pruned model beside the dense one, as recoveries of single blocks are given them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import language
from pomona.engines.beside import beside
from pomona.engines.blocks import Chain
from pomona.vocabulary import Training

TEXT = [{"input_ids": language.ids(4, 16, seed)} for seed in range(4)]


def pruned(name: str = "llama", container: str = "model.layers") -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """A model, the same with the smaller half of each matrix of its blocks gone, and the masks."""
    dense, _ = language.model(name)
    model, masks = copy.deepcopy(dense), {}
    for key, p in model.named_parameters():
        if p.ndim == 2 and key.startswith(container):
            masks[key] = p.abs() > p.abs().median()
            p.data.masked_fill_(~masks[key], 0)
    return dense, model, masks


def training(
    dense: nn.Module, masks: dict[str, Tensor], data: Any = TEXT, container: str = "model.layers", **given: Any
) -> Training:
    """Holds the masks; walks the blocks of the container."""

    def hold(model: nn.Module) -> None:
        for key, mask in masks.items():
            model.get_parameter(key).data.masked_fill_(~mask, 0)

    chain = Chain(container, tuple(f"{container}.{n}" for n, _ in dense.get_submodule(container).named_children()))
    walk = partial(lambda model, batches: beside(model, dense, [chain], batches))
    return Training(data, None, hold, **{"teacher": dense, "beside": walk, **given})


@torch.no_grad()
def distance(model: Any, dense: Any, data: list[dict[str, Tensor]]) -> float:
    """How far what the model answers is from what the dense one does, relative, in squares."""
    pairs = [(model(**batch).logits, dense(**batch).logits) for batch in data]
    return sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(b.square().sum()) for _, b in pairs)

"""GPT-2's linear layers, whose weights lie the other way round, as torch's own."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any

from torch import nn

from pomona.vocabulary import InputError


def as_linears(model: nn.Module) -> nn.Module:
    """The model itself, or where it has transformers' `Conv1D` layers a copy in which these are nn.Linear of the same numbers.

    Those with hooks stay, since hooks may look at their weights.
    """
    kind = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)  # a model that has some has imported it
    found = {
        id(layer): _linear(layer)
        for layer in model.modules()
        if type(layer) is kind and not (layer._forward_hooks or layer._forward_pre_hooks)
    }
    return not_saved_by_transformers(deepcopy(model, found)) if found else model


def not_saved_by_transformers(model: nn.Module) -> nn.Module:
    """The model, whose `save_pretrained`, if it has one, raises InputError: its layers are not those of its class any more."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained = _refused  # type: ignore[assignment]
    return model


def _refused(*args: Any, **kwargs: Any) -> None:
    raise InputError(
        "transformers would not open what it wrote of packed layers, but put random weights in their places; keep the model with "
        "result.save(folder, fast=...), or save the dense one and accelerate it again."
    )


def _linear(layer: Any) -> nn.Linear:
    columns, rows = layer.weight.shape
    made = nn.Linear(columns, rows, device="meta").train(layer.training)
    made.weight = nn.Parameter(layer.weight.detach().mT.contiguous(), layer.weight.requires_grad)
    made.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    return made

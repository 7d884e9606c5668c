"""Example inputs as a model takes them, at this batch size or another."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pomona.graph.export import inputs_of
from pomona.vocabulary import InputError


def inputs_for(
    model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None, batch: int | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs, a tensor, a tuple or a dict, as positional and keyword ones with `batch` rows (None: as they are)."""
    given, named = inputs_of(args, kwargs)
    named = in_order(model, named)
    return (given, named) if batch is None else resized(given, named, batch)


def in_order(model: nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword inputs in the order of the model's forward pass, so that its first tensor says what the batch is."""
    return {name: kwargs[name] for name in (*inspect.signature(model.forward).parameters, *kwargs) if name in kwargs}


def batch_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The first dimension of the first tensor input, in lists and dicts as well; raises InputError when there is none."""
    for value in tree_leaves((args, dict(kwargs))):
        if isinstance(value, Tensor) and value.dim() > 0:
            return len(value)
    raise InputError("None of the example inputs is a tensor with a batch dimension.")


def resized(args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same inputs with `batch` rows: repeated, or cut, along dimension 0.

    Only tensors whose dimension 0 is the batch (that of the first tensor) change.
    """
    if batch < 1:
        raise InputError(f"A batch holds at least one example; got {batch}.")
    size = batch_of(args, kwargs)
    rows = torch.arange(batch) % size

    def grow(value: Any) -> Any:
        fits = isinstance(value, Tensor) and value.dim() > 0 and len(value) == size
        return value[rows.to(value.device)] if fits else value

    return tree_map(grow, args), tree_map(grow, dict(kwargs))

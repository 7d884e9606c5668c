"""Models that a user's own function builds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pomona.entrypoint import call
from pomona.models.source import Source
from pomona.vocabulary import InputError


def load(text: str) -> dict[str, Any]:
    """Call `module:function`: it returns a model or (model, example inputs). Untrained weights are drawn from seed 0."""
    model, example = _call(text)
    place, _, name = text.rpartition(":")
    value = f"{Path(place).resolve()}:{name}" if place.endswith(".py") else text
    return {
        "model": model.eval(),
        "source": Source("function", value),
        "example": None if example is None else as_call(example, text),
    }


def rebuild(source: Source) -> nn.Module:
    """Call the function again."""
    return _call(source.value)[0]


def as_call(example: Any, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as (args, kwargs): a tensor, a tuple of them, a dict, or (args tuple, kwargs dict) already."""
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, (tuple, list)) and example:
        if len(example) == 2 and isinstance(example[0], (tuple, list)) and isinstance(example[1], Mapping):
            return tuple(example[0]), dict(example[1])
        return tuple(example), {}
    raise InputError(f"Example inputs must be a tensor, a tuple or a dict; {text} gave {type(example).__name__}.")


def _call(text: str) -> tuple[nn.Module, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = call(text)
    if isinstance(made, nn.Module):
        return made, None
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        return made[0], made[1]
    raise InputError(f"{text} must return a torch.nn.Module or (module, example inputs); it returned {type(made).__name__}.")

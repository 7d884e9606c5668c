"""Where a model in memory comes from, when it can tell: enough to build its architecture again."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from pomona.models import Source, rebuild
from pomona.vocabulary import InputError


def origin(model: nn.Module) -> Source | None:
    """The source of a transformers or timm model, checked by building it; None for everything else."""
    for guess in (_transformers(model), _timm(model)):
        if guess is not None and _fits(guess, model):
            return guess
    return None


def _transformers(model: nn.Module) -> Source | None:
    config: Any = getattr(model, "config", None)
    if not type(model).__module__.startswith("transformers.") or not hasattr(config, "to_json_string"):
        return None
    return Source("transformers", "", type(model).__name__, json.loads(config.to_json_string(use_diff=False)))


def _timm(model: nn.Module) -> Source | None:
    known: Any = getattr(model, "pretrained_cfg", None) or {}
    name = known.get("architecture")
    if not type(model).__module__.startswith("timm.") or not name:
        return None
    return Source("timm", name, kwargs={"num_classes": getattr(model, "num_classes", known.get("num_classes", 1000))})


def _fits(source: Source, model: nn.Module) -> bool:
    try:
        built = rebuild(source)
    except InputError:
        return False  # this version knows it no more; the exported program will do
    return {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}

"""LoRA by the peft library, merged so that every zero stays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pomona.training.adapters import Target
from pomona.training.batches import seeded
from pomona.vocabulary import InputError, first_line


@contextmanager
def peft_lora(
    model: nn.Module, chosen: Sequence[Target], trained: Sequence[nn.Parameter], rank: int, alpha: float, seed: int
) -> Iterator[None]:
    """Within it the layers that hold the chosen weights are peft's, W x + alpha/rank * B (A x); afterwards they are themselves.

    Then W has become W + alpha/rank * M ⊙ (B A), M being who lives: where something is dead that is not quite the model that
    was trained. `trained` parameters take gradients beside the adapters. Weights that are no module's `weight`, or that several
    modules share, get none. Raises InputError where none is left, where peft knows no adapter for a layer, and without peft.
    """
    library = _library()
    names = {module: name for name, module in model.named_modules()}
    places = {names[t.places[0][0]]: t for t in chosen if len(t.places) == 1 and t.places[0][1] == "weight"}
    places.pop("", None)
    if not places:
        raise InputError("The model has no layer for peft's LoRA; use masklora, which takes part in any module.")
    wanted = "|".join(re.escape(name) for name in places)
    before = set(vars(model))
    config = library.LoraConfig(r=rank, lora_alpha=alpha, target_modules=wanted)
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which way round the weights of GPT-2 lie, and sees to it itself
        try:
            library.inject_adapter_in_model(config, model)
        except ValueError as error:
            raise InputError(f"peft has no adapter for this model ({first_line(error).rstrip('.')}); use masklora.") from None
    for parameter in trained:
        parameter.requires_grad_(True)  # peft has frozen all but its own
    try:
        yield
    finally:
        for name, target in places.items():
            _merge(model, name, target)
        for name in set(vars(model)) - before:
            delattr(model, name)


@torch.no_grad()
def _merge(model: nn.Module, name: str, target: Target) -> None:
    layer: Any = model.get_submodule(name)
    weight = layer.base_layer.weight
    wide = torch.promote_types(weight.dtype, torch.float32)  # in half types a sum may round to a zero that is no dead one's
    for part in (layer.lora_A, layer.lora_B):
        part.to(wide)
    (adapter,) = layer.active_adapters
    merged = (weight.to(wide) + layer.get_delta_weight(adapter).to(wide)).to(weight.dtype)
    merged = torch.where(merged == 0, weight, merged)  # nobody who lives becomes a zero
    weight.copy_(merged.masked_fill(~target.alive, 0))
    model.set_submodule(name, layer.base_layer)


def _library() -> Any:
    try:
        import peft
    except ImportError:
        raise InputError("The recovery lora needs peft: pip install 'pomona[peft]'; masklora needs nothing.") from None
    return peft

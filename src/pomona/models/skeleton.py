"""A transformers model without its weights: parameters have shapes and no values, but whatever its code computes is real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.models.hub import config_of, model_class, quiet, shapes
from pomona.vocabulary import InputError, first_line


def skeleton(folder: Path) -> tuple[nn.Module, nn.Module]:
    """(the model of a transformers folder with parameters on the meta device, one that is all on it, for tracing), float32.

    Rotary frequencies, position numbers and other buffers that the constructor computes are there in the first: they are in
    no file. So are the parameters that the class itself lets be missing, such as sinusoids. Raises InputError where the folder
    describes no model of this transformers.
    """
    try:
        config: Any = config_of(str(folder))
        kind = model_class(config)
        with quiet():
            bare = shapes(kind, config)
            with _parameters_on_meta(_computed(bare)), torch.random.fork_rng(devices=[]):
                model: nn.Module = kind._from_config(config, dtype=torch.float32)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder} is not the folder of a transformers model ({first_line(error)}).") from None
    return model.eval(), bare.eval()


def _computed(bare: nn.Module) -> tuple[type[nn.Module], ...]:
    """Classes of modules of this model's own whose parameters transformers does not save, or does not miss in a file."""
    patterns = [
        *(getattr(bare, "_keys_to_ignore_on_save", None) or ()),
        *(getattr(bare, "_keys_to_ignore_on_load_missing", None) or ()),
    ]
    owners = {
        type(bare.get_submodule(name.rpartition(".")[0]))
        for name, _ in bare.named_parameters()
        if any(re.search(pattern, name) for pattern in patterns)
    }
    return tuple(owner for owner in owners if not owner.__module__.startswith("torch."))  # not every linear layer there is


@contextmanager
def _parameters_on_meta(but: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Modules that are made within it own parameters without memory; only the largest one is ever allocated, unwritten.

    All `but` those of these classes.
    """
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and isinstance(module, but):
            parameter.requires_grad_(False)
        elif parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    nn.Module.register_parameter = registered  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]

"""A transformers model without its weights: parameters have shapes and no values, but whatever its code computes is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.models.hub import import_transformers, model_class, quiet, shapes
from pomona.vocabulary import InputError, first_line


def skeleton(folder: Path) -> tuple[nn.Module, nn.Module]:
    """(the model of a transformers folder with parameters on the meta device, one that is all on it, for tracing), float32.

    Rotary frequencies, position numbers and other buffers that the constructor computes are there in the first: they are in
    no file. Raises InputError where the folder describes no model of this transformers.
    """
    transformers = import_transformers()
    try:
        config: Any = transformers.AutoConfig.from_pretrained(str(folder))
        kind = model_class(config)
        with quiet():
            bare = shapes(kind, config)
            with _parameters_on_meta(), torch.random.fork_rng(devices=[]):
                model: nn.Module = kind._from_config(config, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder} is not the folder of a transformers model ({first_line(error)}).") from None
    return model.eval(), bare.eval()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules that are made within it own parameters without memory; only the largest one is ever allocated, unwritten."""
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    nn.Module.register_parameter = registered  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]

"""Training and evaluation mode for a while: afterwards every module is in the mode that it was in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """Every module gets its own flag back, whatever happened to it meanwhile."""
    flags = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, training in flags:
            _set(module, training)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode: no dropout, running statistics."""
    with modes_kept(*models):
        for model in models:
            set_training(model, False)
        yield


def set_training(model: nn.Module, training: bool) -> None:
    """What `train` and `eval` do. Those are methods that a class may refuse, and exported programs do."""
    for module in model.modules():
        _set(module, training)


def _set(module: nn.Module, training: bool) -> None:
    # To set an attribute of a module takes many times as long as to read it, and this is done around every pass.
    if module.training != training:
        module.training = training

"""Tables that forward passes leave in dictionaries of a module: the next pass reads them, whatever became of the weights.

if x.device not in self.biases:
self.biases[x.device] = self.table[:, self.positions]
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager

from torch import Tensor, nn


def dictionaries(model: nn.Module) -> set[str]:
    """Names of the attributes of modules that are dictionaries of tensors, with something in them."""
    return {
        name
        for module in model.modules()
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, dict) and value and all(isinstance(t, Tensor) for t in value.values())
    }


def empty(model: nn.Module, names: Set[str]) -> None:
    """New, empty dictionaries for those of these names, in place."""
    for module in model.modules() if names else ():
        for name in names & vars(module).keys():
            if isinstance(value := vars(module)[name], dict):
                emptied = value.copy()
                emptied.clear()
                vars(module)[name] = emptied


@contextmanager
def emptied(model: nn.Module, names: Set[str]) -> Iterator[None]:
    """Within it these dictionaries are empty; afterwards the model has its own back."""
    before = [(module, name, vars(module)[name]) for module in model.modules() for name in names if name in vars(module)]
    empty(model, names)
    try:
        yield
    finally:
        for module, name, value in before:
            vars(module)[name] = value

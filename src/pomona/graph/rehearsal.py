"""A forward pass of shapes alone: no numbers are computed and no memory is taken, whatever sizes the code asks for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils import _pytree as pytree

from pomona.graph.precise import wide
from pomona.graph.quiet import quiet
from pomona.graph.tables import dictionaries, emptied, empty
from pomona.vocabulary import evaluating


class Rehearsal:
    """Runs of a model on fake tensors with the shapes of its own and of example inputs."""

    def __init__(self, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        self.model, self.mode = model, FakeTensorMode(allow_non_fake_inputs=True)
        self.state = {name: self.faked(t) for name, t in [*model.named_parameters(), *model.named_buffers()]}
        self.inputs = pytree.tree_map(lambda x: self.faked(wide(x)) if isinstance(x, Tensor) else x, (tuple(args), dict(kwargs)))

    def faked(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape without numbers."""
        return self.mode.from_tensor(tensor.detach())

    def shapes(self) -> list[torch.Size] | None:
        """Of the output tensors; None where they depend on numbers. Raises what the model's code raises."""
        try:
            with unchanged(self.model):
                out = self.run()
        except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException):
            return None
        return [x.shape for x in pytree.tree_leaves(out) if isinstance(x, Tensor)]

    def run(self) -> Any:
        """What the model gives, and leaves behind."""
        args, kwargs = self.inputs
        with quiet(), self.mode:
            return torch.func.functional_call(self.model, self.state, args, kwargs)


def tables(model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> set[str]:
    """Names of the dictionaries of tensors that a pass in evaluation mode on these inputs fills by itself.

    They hold what an earlier pass left there, whatever became of the weights since.
    """
    return {name for name in dictionaries(model) if _refilled(name, model, args, kwargs)}


def forget(model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> nn.Module:
    """Empty its tables, in place; returns the model."""
    empty(model, tables(model, args, kwargs))
    return model


def _refilled(name: str, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> bool:
    with evaluating(model), unchanged(model), emptied(model, {name}):
        # The model's own code runs without something that it may need, which may raise anything.
        try:
            Rehearsal(model, args, kwargs).run()
        except Exception:
            return False
        return name in dictionaries(model)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Whatever a forward pass leaves behind in its modules (tables, caches) is gone afterwards."""
    before = [(module, {name: _copied(value) for name, value in vars(module).items()}) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def _copied(value: Any) -> Any:
    """Containers are copied, what is in them is not."""
    return value.copy() if type(value) in (dict, OrderedDict, list, set) else value  # modules keep their hooks in ordered ones

"""A forward pass of shapes alone: no numbers are computed and no memory is taken, whatever sizes the code asks for."""

from __future__ import annotations

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

from pomona.graph.export import quiet
from pomona.graph.precise import wide


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
        args, kwargs = self.inputs
        try:
            with unchanged(self.model), quiet(), self.mode:
                out = torch.func.functional_call(self.model, self.state, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException):
            return None
        return [x.shape for x in pytree.tree_leaves(out) if isinstance(x, Tensor)]


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
    return value.copy() if type(value) in (dict, list, set) else value

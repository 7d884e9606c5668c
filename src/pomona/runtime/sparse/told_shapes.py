"""What a traced program takes is said in a sentence when it is given something else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pomona.vocabulary import InputError


class ToldShapes(nn.Module):
    """The guards of a traced program, which raise InputError; `shapes` are those of its inputs, of which the batch is free."""

    def __init__(self, guards: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.guards, self.shapes = guards, shapes

    def forward(self, *inputs: Any) -> None:
        """Raises InputError where the inputs are not those of the trace, but for the batch."""
        if torch.compiler.is_compiling():  # where errors cannot be caught
            self.guards(*inputs)
            return
        try:
            self.guards(*inputs)
        except AssertionError:
            wanted, given = (", ".join(map(str, shapes)) for shapes in (self.shapes, [_shape(each) for each in inputs]))
            raise InputError(
                f"Fused layers are for inputs like those they were made with, {wanted}, in any batch; got {given}. "
                "Accelerate the model anew for these, or with fused=False."
            ) from None


def told_shapes(module: nn.Module, inputs: Any) -> None:
    """Give a program's guards, if it has some, their sentence; `inputs` are what it was traced with."""
    guards = getattr(module, "_guards_fn", None)
    if isinstance(guards, nn.Module):
        module.add_module("_guards_fn", ToldShapes(guards, tuple(map(_shape, inputs))))


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__

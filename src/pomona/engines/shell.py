"""One block under its full name, so that whatever speaks of the whole model can work on the block alone."""

from __future__ import annotations

from typing import Any

from torch import nn


class Shell(nn.Module):
    """Empty modules around a block that give its parameters the names which they have in the model; called as the block is.

    >>> shell = Shell("model.layers.0", nn.Linear(2, 2))
    >>> [name for name, _ in shell.named_parameters()]
    ['model.layers.0.weight', 'model.layers.0.bias']
    """

    def __init__(self, name: str, block: nn.Module) -> None:
        super().__init__()
        *path, last = name.split(".")
        holder: nn.Module = self
        for step in path:
            inner = nn.Module()
            holder.add_module(step, inner)
            holder = inner
        holder.add_module(last, block)
        self._block = (block,)  # in a tuple, so that it is not registered under a second name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own."""
        return self._block[0](*args, **kwargs)

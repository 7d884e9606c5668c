"""The dead stay where they are, whatever the optimiser does: no decay, no momentum, no moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Freeze:
    """Hooks around `optimizer.step` that put dead elements back to what they were before it. Costs one copy of the weights.

    `dead` returns the masks of the living (broadcastable, by name) at that moment, empty when nothing is to be kept.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], masks: Callable[[], Mapping[str, Tensor]]
    ) -> None:
        self._parameters, self._masks = parameters, masks
        self._before: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._put_back),
        ]

    def remove(self) -> None:
        """Leave the optimiser as it was."""
        for hook in self._hooks:
            hook.remove()

    def _remember(self, *_: Any) -> None:
        self._before = {name: self._parameters[name].detach().clone() for name in self._masks()}

    @torch.no_grad()
    def _put_back(self, *_: Any) -> None:
        for name, mask in self._masks().items():
            parameter = self._parameters[name]
            parameter.copy_(torch.where(mask, parameter, self._before[name]))
        self._before = {}

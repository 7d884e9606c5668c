"""Who is alive, as masks on tensors: the one mask machinery of the one-shot and the training engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pomona.vocabulary import Site, Structure

Alive = Mapping[str, Tensor]  # site -> bool, the site's grid


def everyone(sites: Sequence[Site], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Nobody has left yet."""
    return {site.name: torch.ones(site.shape, dtype=torch.bool, device=device) for site in sites}


def tensor_masks(structure: Structure, sites: Sequence[Site], alive: Alive) -> dict[str, Tensor]:
    """Parameter name -> bool mask that broadcasts over it; where several sites reach one tensor, all must be alive.

    Branches have no masks: a skipped block is a matter of the forward pass.
    """
    masks: dict[str, Tensor] = {}
    for site in sites:
        if site.kind == "branch":
            continue
        for tensor, mask in structure.expand(site, alive[site.name]).items():
            masks[tensor] = masks[tensor] & mask if tensor in masks else mask
    return masks


@torch.no_grad()
def impose(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Make the dead exactly zero, in place (a NaN that was dead becomes zero too)."""
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        parameter.masked_fill_(~mask, 0)


@torch.no_grad()
def impose_on_state(model: nn.Module, optimizer: torch.optim.Optimizer, masks: Mapping[str, Tensor]) -> None:
    """Forget what the optimiser remembers of the dead: momenta and moments become zero there."""
    for name, mask in masks.items():
        parameter = model.get_parameter(name)
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value.masked_fill_(~mask, 0)

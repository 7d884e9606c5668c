"""Who is alive, as masks on tensors: the one mask machinery of the one-shot and the training engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pomona.native.applied import apply_
from pomona.vocabulary import Decision, Plan, Site, Structure

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


def extent(structure: Structure, sites: Sequence[Site], alive: Alive) -> tuple[dict[str, int], dict[str, float]]:
    """(axis -> units that live, tensor -> share of its elements that lives): what a graph needs to cost the masked model."""
    sizes = {site.axis.name: int(alive[site.name].sum()) for site in sites if site.axis is not None}
    elements = tensor_masks(structure, [site for site in sites if site.kind == "element"], alive)
    densities = {name: float(mask.float().mean()) for name, mask in elements.items()}
    for site in sites:
        if site.kind == "branch":
            gone = [block for block, lives in zip(site.blocks, alive[site.name].tolist(), strict=True) if not lives]
            densities |= {m.tensor: 0.0 for m in site.members if any(m.tensor.startswith(f"{block}.") for block in gone)}
    return sizes, densities


def plan_of(structure: Structure, sites: Sequence[Site], alive: Alive, solved: Mapping[str, Mapping[str, Tensor]]) -> Plan:
    """The decisions as a plan. A plan speaks of elements: tiles and other grids on a weight are spread out over it."""
    places, decisions = {}, {}
    for site in sites:
        keep = alive[site.name]
        if site.kind == "element" and site.weight is not None:
            keep = structure.expand(site, keep)[site.weight.tensor].expand(site.weight.shape).contiguous()
        places[site.name] = replace(site, shape=tuple(keep.shape))
        decisions[site.name] = Decision(keep, solved.get(site.name, {}))
    return Plan(places, decisions)


def stored(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter of that name; behind a gate, the dense one that the gate reads."""
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    if parametrize.is_parametrized(module, attribute):
        behind: nn.Parameter = module.parametrizations[attribute].original  # type: ignore[index, union-attr, assignment]
        return behind
    return model.get_parameter(name)


@torch.no_grad()
def impose(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Make the dead exactly zero, in place (a NaN that was dead becomes zero too)."""
    for name, mask in masks.items():
        parameter = stored(model, name)
        apply_(parameter, mask)


@torch.no_grad()
def impose_on_state(model: nn.Module, optimizer: torch.optim.Optimizer, masks: Mapping[str, Tensor]) -> None:
    """Forget what the optimiser remembers of the dead: momenta and moments become zero there."""
    for name, mask in masks.items():
        parameter = stored(model, name)
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                apply_(value, mask)

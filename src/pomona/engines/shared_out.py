"""Sites shared out over processes: each decides its own, and then all have all decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pomona.processes import Processes
from pomona.vocabulary import Decision, Site
from pomona.vocabulary.layout import product_shape


def owners(sites: Sequence[Site], number: int) -> dict[str, int]:
    """Site -> the rank of the process that decides it. Sites that share a tensor have one owner.

    The costliest go first, each to the process that has least to do. A cost is what a solver takes: a factor
    of the inputs' gram, and a step for every column.
    """
    load, found = [0] * number, dict.fromkeys((site.name for site in sites), 0)
    for team in sorted(_teams(sites), key=lambda team: -sum(map(_cost, team))):
        least = min(range(number), key=load.__getitem__)
        load[least] += sum(map(_cost, team))
        found |= {site.name: least for site in team}
    return found


def exchanged(
    processes: Processes, owner: Mapping[str, int], made: Mapping[str, Decision], device: torch.device
) -> dict[str, Decision]:
    """The decisions of all sites in the order of `owner`; `made` are those of this process."""
    found = {}
    for name, rank in owner.items():
        own = made.get(name)
        parts = None if own is None else (own.keep, dict(own.tensors), own.notes, own.error)
        given = processes.broadcast(parts, rank, device)
        assert given is not None  # its owner made it
        found[name] = Decision(*given)
    return found


def _teams(sites: Sequence[Site]) -> list[list[Site]]:
    """Sites joined where they share a tensor: what a solver made of it at one is where it starts at the next."""
    teams: list[tuple[set[str], list[Site]]] = []
    for site in sites:
        tensors, team = _tensors(site), [site]
        for joined in [one for one in teams if one[0] & tensors]:
            teams.remove(joined)
            tensors, team = joined[0] | tensors, [*joined[1], *team]
        teams.append((tensors, team))
    return [team for _, team in teams]


def _tensors(site: Site) -> set[str]:
    weights = [site.weight, *(member.weight for member in site.members)]
    biases = {weight.bias for weight in weights if weight is not None and weight.bias is not None}
    return {member.tensor for member in site.members} | biases


def _cost(site: Site) -> int:
    if site.weight is None:
        return sum(torch.Size(member.shape).numel() for member in site.members)
    groups, rows, columns = product_shape(site.weight)
    return groups * (rows + columns) * columns**2

"""Plans for tests: seeded choices over the axes, blocks and elements of a traced model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from pomona.vocabulary import Decision, Member, Plan, Site


def axes_plan(graph, names: Iterable[str] | None = None, seed: int = 0) -> Plan:
    """Keep a random half of each of these axes (None: of every one that is not frozen)."""
    random = torch.Generator().manual_seed(seed)
    sites, decisions = {}, {}
    for name in prunable(graph) if names is None else names:
        axis = graph.axes[name]
        keep = torch.zeros(axis.size, dtype=torch.bool)
        keep[torch.randperm(axis.size, generator=random)[: (axis.size + 1) // 2]] = True
        sites[name] = Site(name, "axis", (axis.size,), axis.members, axis=axis)
        decisions[name] = Decision(keep)
    return Plan(sites, decisions)


def prunable(graph) -> list[str]:
    return [name for name, axis in graph.axes.items() if axis.frozen is None]


def team(graph, name: str) -> list[str]:
    """An axis and those that must keep as many units as it for any form of the model to run: the layers of one LSTM."""
    even = graph.axes[name].even
    recurrent = any(m.tensor in graph.weights and graph.weights[m.tensor].kind == "recurrent" for m in graph.axes[name].members)
    return [other for other in prunable(graph) if graph.axes[other].even == even] if even and recurrent else [name]


def blocks_plan(container: str, dead: Sequence[int], of: Sequence[int]) -> Plan:
    """Leave out the blocks `dead` among the children `of` of a container."""
    site = Site(container, "branch", (len(of),), (), blocks=tuple(f"{container}.{number}" for number in of))
    return Plan({container: site}, {container: Decision(torch.tensor([number not in dead for number in of]))})


def elements_plan(model, share: float = 0.5, seed: int = 0) -> Plan:
    """Keep each element of every matrix and kernel with this probability."""
    random = torch.Generator().manual_seed(seed)
    sites, decisions = {}, {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            sites[name] = Site(name, "element", tuple(parameter.shape), (Member(name, "self"),))
            decisions[name] = Decision(torch.rand(parameter.shape, generator=random) < share)
    return Plan(sites, decisions)


def both(*plans: Plan) -> Plan:
    """Several plans as one."""
    return Plan({k: v for p in plans for k, v in p.sites.items()}, {k: v for p in plans for k, v in p.decisions.items()})

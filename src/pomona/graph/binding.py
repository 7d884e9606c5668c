"""A plan or a model from elsewhere, held against a trace."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from pomona.graph.graph import Graph
from pomona.graph.infer import Release
from pomona.graph.masked import dead_blocks
from pomona.graph.surgery import state_of
from pomona.graph.units import axis_of
from pomona.vocabulary import InputError, Plan, Site


def bind(plan: Plan, graph: Graph) -> Plan:
    """The plan with the graph's own axes and weights at its sites, which a saved plan does not hold.

    Raises InputError where the plan was made for another model: an axis, a weight or a block that is not here, or is
    of another size.
    """
    blocks = {block for branch in graph.branches for block in branch.blocks}
    for block in dead_blocks(plan):
        if block not in blocks:
            raise InputError(f"The plan leaves out {block}, which is not a block of this model; use the model it was made for.")
    return replace(plan, sites={name: _bound(site, graph) for name, site in plan.sites.items()})


def same_model(graph: Graph, model: nn.Module) -> Graph:
    """The graph, if the model has the tensors that it was traced with, whatever their values; raises InputError otherwise."""
    there = {name: (tuple(t.shape), t.dtype) for name, t in graph.program.state_dict.items()}
    here = {name: (tuple(t.shape), t.dtype) for name, t in state_of(model).items()}
    for name, kind in there.items():
        if here.get(name) != kind:
            raise InputError(f"The graph was traced on another model: '{name}' is {here.get(name)} here and {kind} there.")
    return graph


def released(graph: Graph, release: Release | None) -> Graph:
    """The graph, if it was traced with this release; raises InputError otherwise."""
    if release is not None and release != graph.released:
        raise InputError(f"The graph was traced without release='{release}'; trace with it.")
    return graph


def _bound(site: Site, graph: Graph) -> Site:
    if site.kind == "axis":
        axis = graph.axes[axis_of(site, graph)]
        _same(site.name, site.shape, (axis.size,))
        return replace(site, axis=axis)
    if site.kind == "element":
        tensor = site.members[0].tensor
        if tensor not in graph.weights:
            raise InputError(f"The plan prunes {tensor}, which this model does not have; use the model it was made for.")
        _same(tensor, site.shape, graph.weights[tensor].shape)
        return replace(site, weight=graph.weights[tensor])
    return site


def _same(name: str, there: tuple[int, ...], here: tuple[int, ...]) -> None:
    if there != here:
        raise InputError(f"The plan is for {name} of shape {there}, here it is {here}; use the model it was made for.")

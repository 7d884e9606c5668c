"""From the sites of a plan to the atoms of a graph."""

from __future__ import annotations

from pomona.graph.expr import Keep
from pomona.graph.graph import Graph
from pomona.vocabulary import InputError, Plan, Site


def kept_units(graph: Graph, plan: Plan) -> Keep:
    """Atom -> kept units (ascending int64), for the axes from which the plan removes something.

    Raises InputError where the plan was made for another model, or leaves nothing of an axis.
    """
    found = {}
    for name, site in plan.sites.items():
        keep = plan.keep(name)
        if site.kind != "axis" or bool(keep.all()):
            continue
        axis = axis_of(site, graph)
        if graph.axes[axis].size != len(keep):
            here = graph.axes[axis].size
            raise InputError(f"The plan has {len(keep)} units at {axis}, the model {here}; use the model it was made for.")
        if not bool(keep.any()):
            raise InputError(f"The plan removes all {len(keep)} units of {axis}; keep at least one.")
        kept, least = int(keep.sum()), graph.axes[axis].least
        if kept < least:
            raise InputError(f"The plan keeps {kept} units of {axis}, of which the model chooses {least}; keep as many.")
        found[graph.atoms[axis]] = keep.nonzero().flatten()
    return found


def pruned_axes(graph: Graph, plan: Plan) -> list[str]:
    """The names of the graph's axes that lose units; raises InputError where the plan was made for another model."""
    lost = (site for name, site in plan.sites.items() if site.kind == "axis" and not bool(plan.keep(name).all()))
    return [axis_of(site, graph) for site in lost]


def axis_of(site: Site, graph: Graph) -> str:
    """The name of the graph's axis that a site acts on; raises InputError where there is none."""
    name = site.axis.name if site.axis else site.name
    if name not in graph.axes:
        raise InputError(f"The plan prunes {name}, which is not an axis of this model; use the model it was made for.")
    if graph.axes[name].frozen:
        raise InputError(f"The plan prunes {name}, which is frozen here ({graph.axes[name].frozen}); leave it out.")
    return name

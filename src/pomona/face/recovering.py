"""What a recovery is given, and how the masks are held on a model that has already been cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from pomona.engines.masks import impose
from pomona.graph import Graph
from pomona.graph.expr import take
from pomona.graph.surgery import renamed
from pomona.graph.units import kept_units
from pomona.vocabulary import Plan, Recovery, Training


def held(graph: Graph, plan: Plan) -> Callable[[nn.Module], None]:
    """The element masks of a plan, cut to the shapes of the small model, as a function that re-imposes them."""
    keep = kept_units(graph, plan)
    masks: dict[str, Tensor] = {}
    for site in plan.sites.values():
        if site.kind == "element":
            name = site.members[0].tensor
            if (new := renamed(name, plan)) is not None:
                masks[new] = take(plan.keep(site.name), graph.dims[name], keep)
    return lambda model: impose(model, masks)


def recover(recovery: Recovery, model: nn.Module, training: Training) -> Mapping[str, Any]:
    """Run a recovery and say how long it took."""
    start = time.perf_counter()
    history = recovery.recover(model, training)
    return {"name": type(recovery).__name__, "history": history, "seconds": time.perf_counter() - start}

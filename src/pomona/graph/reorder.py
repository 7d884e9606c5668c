"""The units of an axis in another order: the same function with other neighbours.

What belongs together is what leaves together, so units may change places wherever they may leave: every tensor that an axis
reaches is taken in the new order, at all its places. No size changes, and nothing has to be mended.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from pomona.graph.expr import atoms, index, norm
from pomona.graph.graph import Graph
from pomona.graph.surgery import dims_of, state_of
from pomona.vocabulary import Axis, InputError


def fixed(model: nn.Module, axis: Axis) -> str | None:
    """Why the units of an axis must stay in their order; None where they need not.

    A tensor that is not saved with the model would be in the old order when the model is opened again.
    """
    if axis.frozen is not None:
        return axis.frozen
    saved = model.state_dict(keep_vars=True).keys()
    return next((f"{m.tensor} is not saved with the model" for m in axis.members if m.tensor not in saved), None)


@torch.no_grad()
def reordered(model: nn.Module, graph: Graph, orders: Mapping[str, Tensor]) -> nn.Module:
    """A copy in which place p of an axis holds the unit `orders[axis][p]` (int64, units); axes that are not named stay.

    Tied tensors stay tied; what no axis reaches is shared with `model`, which is untouched. Raises InputError for an axis that is
    not there, is frozen or has another number of units.
    """
    moved = {}
    for name, order in orders.items():
        if name not in graph.atoms or sorted(order.tolist()) != list(range(graph.atoms[name].n)):
            raise InputError(f"The order of {name} is not one of an axis of this model; use the model that it was made for.")
        moved[graph.atoms[name]] = order
    made: dict[int, Tensor] = {}
    for name, tensor in state_of(model).items():
        dims = dims_of(graph, name) or ()
        value = tensor.detach()
        for dim, e in enumerate(map(norm, dims)):
            if atoms(e).keys() & moved.keys():
                value = value.index_select(dim, index(e, moved).to(value.device))
        if value is tensor or value.data_ptr() == tensor.data_ptr():
            made[id(tensor)] = tensor
        else:
            made[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
    return deepcopy(model, made)  # what is in there counts as copied already

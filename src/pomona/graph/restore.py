"""The way back: a small model's values at their places in the original architecture, zeros elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from pomona.graph.expr import Dims, Keep, index
from pomona.graph.graph import Graph
from pomona.graph.masked import masked
from pomona.graph.mend_scale import scales, unfolded
from pomona.graph.surgery import renamed
from pomona.graph.units import kept_units
from pomona.vocabulary import Plan


@torch.no_grad()
def restored(dense: nn.Module, graph: Graph, plan: Plan, small: nn.Module) -> nn.Module:
    """`dense` (the architecture that the graph was traced from) with the weights of `small` where the plan keeps them.

    Parameters are zero elsewhere, buffers keep the dense model's values there. Blocks that the plan leaves out are
    passed through. Trained weights come along, so the result equals `small` even after recovery.
    """
    whole = masked(dense, plan)
    keep = kept_units(graph, plan)
    there = {renamed(name, plan): name for name in [*graph.dims, *graph.ties]}
    values = {**dict(small.named_parameters(remove_duplicate=False)), **dict(small.named_buffers(remove_duplicate=False))}
    places = {**dict(whole.named_parameters(remove_duplicate=False)), **dict(whole.named_buffers(remove_duplicate=False))}
    folded = {} if isinstance(small, fx.GraphModule) else scales(graph, keep)  # a rewritten program states its scales
    for new, value in values.items():
        name = there.get(new, new)
        target = places[name]
        value = unfolded(graph.ties.get(name, name), value, folded, graph, keep)
        if target.shape == value.shape:
            target.copy_(value)
        else:
            put(target, value, graph.dims[graph.ties.get(name, name)], keep)
    return whole


def put(target: Tensor, value: Tensor, dims: Dims, keep: Keep) -> None:
    """Write `value` at the kept positions of `target`, in place."""
    kept = [index(e, keep) for e in dims]
    grid = [positions.view([-1 if d == dim else 1 for d in range(len(kept))]) for dim, positions in enumerate(kept)]
    target[tuple(grid)] = value.to(target)

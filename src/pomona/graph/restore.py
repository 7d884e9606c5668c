"""The way back: a small model's values at their places in the original architecture, zeros elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from pomona.graph.expr import Dims, Keep, index
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks, masked
from pomona.graph.mend_code import adapted
from pomona.graph.mend_scale import Scales, possible, unfolded
from pomona.graph.precise import precise
from pomona.graph.proof import difference
from pomona.graph.reference import answer, reference
from pomona.graph.rehearsal import forget
from pomona.graph.surgery import renamed
from pomona.graph.units import kept_units
from pomona.vocabulary import Plan

SAME = 1e-6  # scores of another sharpness show; a last digit that was rounded does not


def restored(dense: nn.Module, graph: Graph, plan: Plan, small: nn.Module) -> nn.Module:
    """`dense` (the architecture that the graph was traced from) with the weights of `small` where the plan keeps them.

    Parameters are zero elsewhere, buffers keep the dense model's values there. Blocks that the plan leaves out are
    passed through. Trained weights come along, so the result equals `small` even after recovery.
    """
    keep = kept_units(graph, plan)
    # A rewritten program and code that was given new sizes state their scales; whether any other module took them into its
    # weights is told by what it answers.
    *doubtful, last = [{}] if isinstance(small, fx.GraphModule) or adapted(small) else possible(graph, keep)
    for folded in doubtful:
        whole = _filled(dense, graph, plan, small, folded)
        args, kwargs = graph.program.example_inputs
        expected = reference(precise(whole, borrow=True), graph, keep, dead_blocks(plan), args, kwargs)
        if difference(answer(forget(precise(small, borrow=True), args, kwargs), args, kwargs), expected) < SAME:
            return whole
    return _filled(dense, graph, plan, small, last)


@torch.no_grad()
def _filled(dense: nn.Module, graph: Graph, plan: Plan, small: nn.Module, folded: Scales) -> nn.Module:
    whole, keep = forget(masked(dense, plan), *graph.program.example_inputs), kept_units(graph, plan)
    there = {renamed(name, plan): name for name in [*graph.dims, *graph.ties]}
    values = {**dict(small.named_parameters(remove_duplicate=False)), **dict(small.named_buffers(remove_duplicate=False))}
    places = {**dict(whole.named_parameters(remove_duplicate=False)), **dict(whole.named_buffers(remove_duplicate=False))}
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

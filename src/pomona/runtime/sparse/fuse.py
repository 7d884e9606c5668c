"""The traced program on packed layers, which take BatchNorm, additions and ReLU along: one pass over the maps for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import runnable
from pomona.graph.quiet import quiet
from pomona.runtime.export import with_free_batch
from pomona.runtime.sparse.candidates import Candidate
from pomona.runtime.sparse.chains import chains
from pomona.runtime.sparse.pooled import pool_by_pixels
from pomona.runtime.sparse.rewriting import Rewriting
from pomona.runtime.sparse.told_shapes import told_shapes


@dataclass(frozen=True, eq=False)
class Fused:
    """The program, and how many ops of it packed convolutions have taken along.

    `model` is None where nothing is fused; `reason` says what was in the way, if it was not only that there is nothing to fuse.
    """

    model: nn.Module | None
    ops: int = 0
    reason: str | None = None


@torch.inference_mode(False)  # exporters refuse tensors that were made within it
def fuse(model: nn.Module, chosen: Mapping[str, Candidate], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Fused:
    """The evaluation-mode forward pass of `model` with these layers packed and whatever alone reads a packed convolution fused.

    What counts is the trace; the order of modules and their names have no say. BatchNorm is folded in float64, into dense
    convolutions, too. The program takes inputs of the example's shapes but for the batch, and holds copies of the model's
    tensors. There is none where nothing can be fused, the model cannot be exported with a free batch or has hooks, or a layer to
    be packed is not called as such in the trace.
    """
    if any(part._forward_hooks or part._forward_pre_hooks for part in model.modules()):
        return Fused(None, reason="the model has hooks")
    with quiet():
        program = with_free_batch(model, args, dict(kwargs))
    if program is None:
        return Fused(None, reason="the model cannot be exported with a free batch")
    module = runnable(program)
    assert isinstance(module, fx.GraphModule)
    known = dict(model.named_modules(remove_duplicate=False))
    weights = {id(known[name].weight): name for name in chosen}
    rewriting = Rewriting(module, {weight: (name, chosen[name]) for weight, name in weights.items()})
    taken = sum(rewriting.convolution(chain) for chain in chains(module.graph, rewriting.packs))
    for n in module.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default):
        rewriting.linear(n)
    if not taken:
        return Fused(None)
    if left := [name for weight, name in weights.items() if weight not in rewriting.placed]:
        return Fused(None, reason=f"{left[0]} is not called as a layer in the trace")
    rewriting.finish()
    pool_by_pixels(module)
    told_shapes(module, tree_leaves((args, dict(kwargs))))
    module.recompile()
    return Fused(module, taken)

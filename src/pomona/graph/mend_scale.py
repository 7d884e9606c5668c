"""Attention that takes its scale from the width of its heads: the scale of the unpruned heads goes into the queries."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, fx, nn

from pomona.graph.blocks import renamed
from pomona.graph.expr import Keep, index, size
from pomona.graph.graph import Graph
from pomona.graph.nodes import arguments, name_of, tensor_names
from pomona.vocabulary import Plan

_MOVES = frozenset(
    "view reshape _unsafe_view flatten unflatten permute transpose t contiguous clone unsqueeze squeeze "
    "split split_with_sizes chunk unbind select slice narrow".split()
)


@torch.no_grad()
def fold_scales(small: nn.Module, graph: Graph, keep: Keep, plan: Plan) -> str | None:
    """Multiply the rows of weights that write queries by sqrt(new width / old width), in place; None, or why it cannot be.

    `scaled_dot_product_attention` without a scale divides by the square root of the head width it meets, which is smaller
    in the small model; removing a dimension must not make attention sharper.
    """
    done: dict[tuple[str, int], Tensor] = {}
    for n in graph.values:
        if name_of(n) != "scaled_dot_product_attention" or arguments(n).get("scale") is not None:
            continue
        query, key, value = (arguments(n)[word] for word in ("query", "key", "value"))
        width = graph.values[query][-1]
        factor = sqrt(size(width, keep) / width.n)
        if factor == 1:
            continue
        source = _source(query)
        if source is None or not _alone(source, query, (key, value)):
            return "attention takes its scale from the head width, and the queries are not written by one linear layer"
        written = torch.zeros(source.meta["val"].shape[-1], dtype=torch.bool)
        written[_features(source, query)] = True
        for tensor, dim in _writers(source, graph):
            if (tensor, dim) in done and bool((done[tensor, dim] & written).any()):
                continue  # the same module was called twice
            done[tensor, dim] = done.get((tensor, dim), torch.zeros_like(written)) | written
            _scale(small, renamed(tensor, plan), dim, written[index(graph.dims[tensor][dim], keep)], factor)
    return None


def _scale(small: nn.Module, name: str | None, dim: int, rows: Tensor, factor: float) -> None:
    if name is not None:
        parameter = small.get_parameter(name)
        scale = torch.where(rows, factor, 1.0).to(parameter)
        parameter.mul_(scale.view([-1 if d == dim else 1 for d in range(parameter.dim())]))


def _path(n: fx.Node) -> list[fx.Node]:
    """The nodes that only move entries about, back from `n`, with what they start from at the end."""
    found = [n]
    while name_of(found[-1]) in _MOVES or name_of(found[-1]) == "getitem":
        found.append(found[-1].all_input_nodes[0])
    return found


def _source(n: fx.Node) -> fx.Node | None:
    start = _path(n)[-1]
    return start if name_of(start) in ("linear", "addmm", "mm", "matmul") else None


def _features(source: fx.Node, n: fx.Node) -> Tensor:
    """Which features of the source reach the node."""
    shape = source.meta["val"].shape
    env: dict[fx.Node, Any] = {source: torch.arange(shape[-1]).expand(shape)}
    for step in reversed(_path(n)[:-1]):
        env[step] = step.target(*fx.map_arg(step.args, env.__getitem__), **fx.map_arg(step.kwargs, env.__getitem__))  # type: ignore[operator]
    return torch.unique(env[n])


def _alone(source: fx.Node, query: fx.Node, others: Sequence[fx.Node]) -> bool:
    """Whether no key or value is made from the features that make queries."""
    features = _features(source, query)
    for other in others:
        if _path(other)[-1] is source and bool(torch.isin(_features(source, other), features).any()):
            return False
    return True


def _writers(source: fx.Node, graph: Graph) -> list[tuple[str, int]]:
    """The parameters whose entries write the features of a linear op, and the dimension that does."""
    names, given = tensor_names(graph.program), arguments(source)
    if name_of(source) == "linear":
        candidates = [(given["weight"], 0), (given.get("bias"), 0)]
    elif name_of(source) == "addmm":
        candidates = [(given["mat2"], 1), (given["self"], -1)]
    else:
        candidates = [(given.get("mat2", given.get("other")), -1)]
    tensors = [(names[v.name], dim) for v, dim in candidates if isinstance(v, fx.Node) and v.name in names]
    return [(name, dim % len(graph.dims[name])) for name, dim in tensors]

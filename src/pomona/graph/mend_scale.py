"""Attention that takes its scale from the width of its heads: the scale of the unpruned heads goes into the queries.

`scaled_dot_product_attention` without a scale divides by the square root of the head width it meets, which is smaller in
the small model; but removing a dimension must not make attention sharper. So the weights that write the queries are
multiplied by sqrt(new width / old width).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from pomona.graph.blocks import renamed
from pomona.graph.expr import Keep, index, size, take
from pomona.graph.graph import Graph
from pomona.graph.nodes import arguments, name_of, tensor_names
from pomona.vocabulary import Plan

_MOVES = frozenset({
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t", "contiguous",
    "clone", "split", "split_with_sizes", "chunk", "unbind", "getitem", "select", "slice", "narrow",
})  # fmt: skip
Scales = dict[str, tuple[int, Tensor]]  # tensor -> (dimension, float64 factor at each of its old positions)


class Unscalable(Exception):
    """The queries of some attention are not written by one linear layer of their own."""


def scales(graph: Graph, keep: Keep) -> Scales:
    """By what the weights that write queries must be multiplied; empty where every attention brings its own scale."""
    found: Scales = {}
    for n in graph.values:
        if name_of(n) != "scaled_dot_product_attention" or arguments(n).get("scale") is not None:
            continue
        query, key, value = (arguments(n)[word] for word in ("query", "key", "value"))
        width = graph.values[query][-1]
        if size(width, keep) == width.n:
            continue
        source = _path(query)[-1]
        if name_of(source) not in ("linear", "addmm") or not _alone(source, query, (key, value)):
            raise Unscalable(f"{n.name} takes its scale from the head width, and no linear layer writes its queries alone")
        for tensor, dim in _writers(source, graph):
            # A module that is called twice is scaled once.
            _, factors = found.setdefault(tensor, (dim, torch.ones(graph.dims[tensor][dim].n, dtype=torch.float64)))
            factors[_features(source, query)] = sqrt(size(width, keep) / width.n)
    return found


@torch.no_grad()
def fold(small: nn.Module, graph: Graph, keep: Keep, plan: Plan) -> None:
    """Multiply the weights that write queries, in place. Raises Unscalable where that cannot be."""
    for tensor, (dim, factors) in scales(graph, keep).items():
        if (name := renamed(tensor, plan)) is not None:
            parameter = small.get_parameter(name)
            parameter.copy_(parameter.double() * _along(factors[index(graph.dims[tensor][dim], keep)], dim, parameter))


@torch.no_grad()
def unrounded(twin: nn.Module, small: nn.Module, whole: nn.Module, graph: Graph, keep: Keep, plan: Plan) -> tuple[str, ...]:
    """Give the float64 twin of a small model its folded weights as they were before they were rounded; returns their names.

    Only where the small model's weight is the rounded product, to the last digit of its precision, of the masked model's
    weight in `whole`; any other stays, and the proof will see it.
    """
    done = []
    for tensor, (dim, factors) in scales(graph, keep).items():
        if (name := renamed(tensor, plan)) is not None:
            kept = take(whole.get_parameter(tensor).detach(), graph.dims[tensor], keep).double()
            exact = kept * _along(factors[index(graph.dims[tensor][dim], keep)], dim, kept)
            had = small.get_parameter(name)
            if had.shape == exact.shape and torch.allclose(had.double(), exact, rtol=torch.finfo(had.dtype).eps, atol=0):
                twin.get_parameter(name).copy_(exact)
                done.append(name)
    return tuple(done)


def unfolded(tensor: str, value: Tensor, found: Scales, graph: Graph, keep: Keep) -> Tensor:
    """A weight of a small eager module as the masked model has it: the inverse of `fold`, by the dense model's name."""
    if tensor not in found:
        return value
    dim, factors = found[tensor]
    there = value.double() / _along(factors[index(graph.dims[tensor][dim], keep)], dim, value)
    return there.to(value.dtype)


def _along(factors: Tensor, dim: int, tensor: Tensor) -> Tensor:
    return factors.to(tensor.device).view([-1 if d == dim else 1 for d in range(tensor.dim())])


def _path(n: fx.Node) -> list[fx.Node]:
    """The nodes that only move entries about, back from `n`, with what they start from at the end."""
    found = [n]
    while name_of(found[-1]) in _MOVES:
        found.append(found[-1].all_input_nodes[0])
    return found


def _features(source: fx.Node, n: fx.Node) -> Tensor:
    """Which features of the source reach the node: the moves are made with feature numbers for values."""
    shape = source.meta["val"].shape
    env: dict[fx.Node, Any] = {source: torch.arange(shape[-1]).expand(shape)}
    for step in reversed(_path(n)[:-1]):
        args, kwargs = fx.map_arg((step.args, dict(step.kwargs)), env.__getitem__)
        env[step] = step.target(*args, **kwargs)  # type: ignore[operator]
    return cast(Tensor, torch.unique(env[n]))


def _alone(source: fx.Node, query: fx.Node, others: Sequence[fx.Node]) -> bool:
    """Whether no key or value is made from the features that make queries."""
    features = _features(source, query)
    return not any(_path(o)[-1] is source and bool(torch.isin(_features(source, o), features).any()) for o in others)


def _writers(source: fx.Node, graph: Graph) -> list[tuple[str, int]]:
    """The parameters whose entries write the features of a linear op, and the dimension that does."""
    names, given = tensor_names(graph.program), arguments(source)
    if name_of(source) == "linear":
        candidates = [(given["weight"], 0), (given["bias"], 0)]
    else:
        candidates = [(given["mat2"], 1), (given["self"], -1)]
    tensors = [(names[v.name], dim) for v, dim in candidates if isinstance(v, fx.Node) and v.name in names]
    return [(name, dim % len(graph.dims[name])) for name, dim in tensors]

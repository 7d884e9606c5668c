"""A model that cannot be traced, seen through its modules: which weights there are, and nothing about what goes with what.

That is enough to thin out single weights, alone or in blocks and n:m groups, since no shape changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pomona.graph.costs import Polynomials
from pomona.graph.export import inputs_of
from pomona.graph.expr import Const
from pomona.graph.graph import Graph, trace
from pomona.graph.infer import Release, tied
from pomona.graph.nodes import every_node, frames, shape, tensor_names
from pomona.graph.precise import precise
from pomona.graph.reference import answer
from pomona.graph.terms import Term
from pomona.vocabulary import Convolution, Untraceable, Weight
from pomona.vocabulary.sites import WeightKind

Reads = Callable[[Any, str], tuple[WeightKind, int | None, int | None]]  # (module, parameter's own name) -> kind, out, in


def survey(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None = None, *, release: Release | None = None) -> Graph:
    """The traced model; where it cannot be traced but does run on these inputs, its modules' weights (`Graph.missing` says why).

    Raises InputError where it neither traces nor runs.
    """
    try:
        graph = trace(model, args, kwargs, release=release)
    except Untraceable as error:
        if not _runs(model, *inputs_of(args, kwargs)):
            raise
        return untraced(model, str(error))
    return replace(graph, weights={**graph.weights, **dict(_lost(model, graph))})


def _lost(model: nn.Module, graph: Graph) -> Iterator[tuple[str, Weight]]:
    """Matrices that products read in the program although the trace lost them on the way there, which says no more of axes.

    That of a layer of torch's that something wrote to before (RWKV scales its own), and stacks that are picked from one by one.
    """
    modules, names = dict(model.named_modules(remove_duplicate=False)), tensor_names(graph.program)
    for n in every_node(graph.program):
        given: Any = n.args[1] if n.target == torch.ops.aten.linear.default else None
        if given is None:
            continue
        owner = next(reversed(frames(n)), "")
        if isinstance(modules.get(owner), nn.Linear):
            yield from _read_as(graph, f"{owner}.weight", shape(given), 0)
        if given.target == torch.ops.aten.select.int and given.args[1] == 0:
            yield from _read_as(graph, names.get(given.args[0].name, ""), shape(given.args[0]), 1)


def _read_as(graph: Graph, name: str, shape: tuple[int, ...] | None, out_dim: int) -> Iterator[tuple[str, Weight]]:
    weight = graph.weights.get(graph.ties.get(name, name))
    if weight is not None and weight.kind == "other" and weight.shape == shape and len(shape) == out_dim + 2:
        yield weight.tensor, replace(weight, kind="linear", out_dim=out_dim, in_dim=out_dim + 1)


def untraced(model: nn.Module, why: str) -> Graph:
    """A graph without a program: the weights that layers of torch hold. All dimensions are constants, MACs are unknown."""
    ties = tied(model)
    weights = {name: weight for name, weight in _weights(model) if name not in ties}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    dims = {name: tuple(Const(k, "no graph") for k in t.shape) for name, t in tensors.items() if name not in ties}
    return Graph(
        weights=weights,
        axes={},
        branches=(),
        dims=dims,
        ties=ties,
        atoms={},
        exported=None,
        values={},
        facts={},
        normed={},
        unknown=(),
        polynomials=Polynomials.of([Term(1, dims[name], name, ()) for name in weights], [], []),
        missing=why.rstrip("."),
    )


def _weights(model: nn.Module) -> list[tuple[str, Weight]]:
    """Every parameter by each of its names."""
    found = []
    for path, module in model.named_modules():
        read = next((_READS[kind] for kind in type(module).__mro__ if kind in _READS), _other)
        for own, p in module.named_parameters(recurse=False, remove_duplicate=False):
            kind, out_dim, in_dim = read(module, own)
            name, conv = f"{path}.{own}" if path else own, _walk(module) if kind == "conv" else None
            found.append((name, Weight(name, kind, tuple(p.shape), out_dim, in_dim, conv=conv, module=type(module).__name__)))
    return found


def _linear(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    return ("linear", 0, 1) if module._parameters[own].dim() == 2 else ("bias", None, None)


def _convolution(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    if own != "weight":
        return "bias", None, None
    return ("conv", 1, 0) if module.transposed else ("conv", 0, 1)


def _recurrent(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    return ("recurrent", 0, 1) if own.startswith("weight") else ("bias", None, None)


def _table(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    return "embedding", 1, None


def _norm(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    return "bias" if own == "bias" else "norm", None, None


def _other(module: Any, own: str) -> tuple[WeightKind, int | None, int | None]:
    return "bias" if own.endswith("bias") else "other", None, None


_READS: Mapping[type, Reads] = {
    nn.Linear: _linear,
    nn.MultiheadAttention: _linear,
    nn.modules.conv._ConvNd: _convolution,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
    nn.Embedding: _table,
    nn.EmbeddingBag: _table,
    nn.modules.batchnorm._NormBase: _norm,
    nn.LayerNorm: _norm,
    nn.GroupNorm: _norm,
    nn.RMSNorm: _norm,
}


def _walk(conv: Any) -> Convolution:
    rank = len(conv.kernel_size)
    kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    padding, trailing = (0,) * rank, tuple(conv.output_padding)
    zeros = conv.padding_mode == "zeros"  # else what is heard at the product is padded already
    if zeros and conv.padding == "same":
        padding, trailing = Convolution.same(kernel, dilation)
    elif zeros and conv.padding != "valid":
        padding = tuple(conv.padding)[:rank]
    return Convolution(tuple(stride), padding, tuple(dilation), conv.groups, conv.transposed, trailing)


def _runs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the model's own code takes the inputs, in float64, as the proof will run it."""
    try:
        answer(precise(model, borrow=True), args, kwargs)
    # The user's forward may raise anything; then there is nothing to fall back to, and the tracing's own words stand.
    except Exception:
        return False
    return True

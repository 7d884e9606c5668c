"""What alone reads a convolution in a traced program, and so can be computed with it: BatchNorm, an addition, ReLU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from pomona.graph.nodes import arguments

_aten = torch.ops.aten
CONVOLUTIONS = (_aten.conv2d.default, _aten.conv2d.padding)
RELU = (_aten.relu.default, _aten.relu_.default)
_FRESH = (*CONVOLUTIONS, _aten.batch_norm.default)  # whose answers are memory of their own
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)


@dataclass(frozen=True)
class Chain:
    """Nodes that follow a convolution, each the only reader of the one before: norm, add and ReLU, where they are there.

    `residual` is what `add` adds, of the shape and type of the convolution's answer.
    """

    conv: fx.Node
    norm: fx.Node | None = None
    add: fx.Node | None = None
    residual: fx.Node | None = None
    relu: fx.Node | None = None

    @property
    def nodes(self) -> list[fx.Node]:
        """The chain from the convolution on."""
        return [n for n in (self.conv, self.norm, self.add, self.relu) if n is not None]

    @property
    def last(self) -> fx.Node:
        """The node whose value the whole chain gives."""
        return self.nodes[-1]


def chains(graph: fx.Graph, able: Callable[[fx.Node], bool]) -> list[Chain]:
    """Every 2-d convolution with what can be computed with it, in the program's order; additions and ReLU with `able` ones.

    BatchNorm counts where it uses running statistics. An addition belongs to the later of two convolutions that it adds.
    """
    order = {n: number for number, n in enumerate(graph.nodes)}
    writes = [number for n, number in order.items() if _writes(n)]
    taken: set[fx.Node] = set()
    found = []
    for n in reversed(graph.nodes):
        if n.target in CONVOLUTIONS:
            chain = _with_norm(n)
            if able(n):
                chain = _with_relu(_with_addition(chain, order, writes, taken))
            taken.update(chain.nodes)
            found.append(chain)
    return found[::-1]


def _with_norm(conv: fx.Node) -> Chain:
    reader = reader_of(conv)
    return Chain(conv, reader if reader is not None and _normalises(reader, conv) else None)


def _with_addition(chain: Chain, order: Mapping[fx.Node, int], writes: Sequence[int], taken: set[fx.Node]) -> Chain:
    reader = reader_of(chain.last)
    if reader is None or reader.target not in _ADD or reader in taken:
        return chain
    residual = _added(reader, chain.last)
    # The convolution moves down to the addition, so nothing in between may write into what it reads.
    if residual is None or any(order[chain.conv] < number < order[reader] for number in writes):
        return chain
    return replace(chain, add=reader, residual=residual)


def _with_relu(chain: Chain) -> Chain:
    reader = reader_of(chain.last)
    return chain if reader is None or reader.target not in RELU else replace(chain, relu=reader)


def reader_of(n: fx.Node) -> fx.Node | None:
    """The one node that reads this one, once; None where there are several."""
    reader = next(iter(n.users)) if len(n.users) == 1 else None
    return reader if reader is not None and sum(each is n for each in _leaves(reader)) == 1 else None


def _leaves(n: fx.Node) -> list[Any]:
    return torch.utils._pytree.tree_leaves((n.args, dict(n.kwargs)))


def _normalises(n: fx.Node, x: fx.Node) -> bool:
    """Whether a node is the BatchNorm of x by running statistics that the model holds."""
    if n.target is not _aten.batch_norm.default:
        return False
    given = arguments(n)
    held = [given["running_mean"], given["running_var"]]
    held += [given[name] for name in ("weight", "bias") if given[name] is not None]
    return given["input"] is x and given["training"] is False and all(is_held(each) for each in held)


def is_held(n: Any) -> bool:
    """Whether a node stands for a tensor that the model holds."""
    return isinstance(n, fx.Node) and n.op == "get_attr"


def _added(n: fx.Node, x: fx.Node) -> fx.Node | None:
    """What an addition adds to x, if that is of x's shape and type and nobody sees what the addition writes into."""
    given = arguments(n)
    first, second = given["self"], given["other"]
    other = second if first is x else first
    if given["alpha"] != 1 or not isinstance(other, fx.Node):
        return None
    if n.target is _aten.add_.Tensor and first is not x and not (first.target in _FRESH and reader_of(first) is n):
        return None
    mine, theirs = x.meta.get("val"), other.meta.get("val")
    if not isinstance(mine, Tensor) or not isinstance(theirs, Tensor):
        return None
    alike = mine.dim() == 4 and mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.device == theirs.device
    return other if alike else None


def _writes(n: fx.Node) -> bool:
    schema = getattr(n.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)

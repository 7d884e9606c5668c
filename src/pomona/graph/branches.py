"""Sibling blocks that hand on what they were given plus something: any of them can be left out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from pomona.graph.expr import norm
from pomona.graph.nodes import frames, name_of, shape
from pomona.graph.op import Record
from pomona.vocabulary import Branch, Weight

_CARRY = [
    "add",
    "add_",
    "relu",
    "relu_",
    "relu6",
    "gelu",
    "silu",
    "hardswish",
    "dropout",
    "dropout_",
    "layer_norm",
    "rms_norm",
    "contiguous",
    "clone",
    "to",
    "_to_copy",
    "detach",
    "alias",
    "permute",
    "transpose",
    "view",
    "reshape",
    "getitem",
]


def branches_of(model: nn.Module, program: fx.Graph, walk: Record, weights: Mapping[str, Weight]) -> tuple[Branch, ...]:
    """Runs of children of one list or sequence whose output is their input plus what their weights make of it."""
    inside: dict[str, list[fx.Node]] = {}
    for node in program.nodes:
        for path in dict.fromkeys(frames(node)):
            inside.setdefault(path, []).append(node)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1:
            blocks = [f"{name}.{child}" if name else child for child, _ in module.named_children()]
            run = tuple(b for b in blocks if _holds_weights(b, weights) and _adds(inside.get(b, []), walk))
            if len(run) > 1:
                found.append(Branch(name, run))
    return tuple(found)


def _holds_weights(block: str, weights: Mapping[str, Weight]) -> bool:
    return any(w.prunable and name.startswith(f"{block}.") for name, w in weights.items())


def _adds(nodes: list[fx.Node], walk: Record) -> bool:
    """Whether exactly one value leaves the block, of the shape and dimensions of one that enters, which it is a sum with."""
    within = set(nodes)
    leaving = [n for n in nodes if any(user not in within for user in n.users) and shape(n) is not None]
    if len(leaving) != 1:
        return False
    entering = [v for n in nodes for v in n.all_input_nodes if v not in within and v not in walk.sources]
    return any(_alike(v, leaving[0], walk) and _carried(leaving[0], v, within, False) for v in dict.fromkeys(entering))


def _alike(a: fx.Node, b: fx.Node, walk: Record) -> bool:
    x, y = walk.values.get(a), walk.values.get(b)
    return (
        shape(a) == shape(b)
        and isinstance(x, tuple)
        and isinstance(y, tuple)
        and all(norm(e) is norm(f) or norm(e).n == norm(f).n for e, f in zip(x, y, strict=True))
    )


def _carried(node: fx.Node, source: fx.Node, within: set[fx.Node], summed: bool) -> bool:
    """Whether `source` reaches `node` through sums, at least one, and what does not mix features."""
    if node is source:
        return summed
    name = name_of(node)
    if node not in within or name not in _CARRY:
        return False
    adds = name.startswith("add")
    operands = [a for a in node.args[: 2 if adds else 1] if isinstance(a, fx.Node)]
    return any(_carried(a, source, within, summed or adds) for a in operands)

"""Sibling blocks that hand on what they were given plus something: any of them can be left out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

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
    """Runs of children of one container whose output is their input plus what their weights make of it.

    A container is a list, a sequence, or a module whose own code only hands on from one child to the next. Containers are no
    blocks, and what lies within a block is no block of its own. Blocks of one run pass on tensors of one shape.
    """
    inside: dict[str, list[fx.Node]] = {}
    own: set[str] = set()
    for node in program.nodes:
        stack = frames(node)
        own.update(stack[-1:])
        for path in dict.fromkeys(stack):
            inside.setdefault(path, []).append(node)
    containers = {
        name
        for name, m in model.named_modules()
        if isinstance(m, (nn.ModuleList, nn.Sequential)) or (name in inside and name not in own and _is_chain(name, m, inside))
    }
    found: list[Branch] = []
    taken: list[str] = []
    for name, module in model.named_modules():
        if name not in containers or any(name.startswith(f"{block}.") for block in taken):
            continue
        blocks = [f"{name}.{child}" if name else child for child, _ in module.named_children()]
        runs: dict[tuple[int, ...], list[str]] = {}
        for block in blocks:
            if block not in containers and _holds_weights(block, weights):
                leaving = _added(inside.get(block, []), walk)
                if leaving is not None:
                    runs.setdefault(leaving, []).append(block)
        rest = sum(map(len, runs.values())) < sum(block in inside or block in containers for block in blocks)
        found += [Branch(name, tuple(run), rest or len(runs) > 1) for run in runs.values()]
        taken += [block for run in runs.values() for block in run]
    return tuple(found)


def _is_chain(name: str, module: nn.Module, inside: Mapping[str, list[fx.Node]]) -> bool:
    """Whether each child starts from what the one before it gave, and nothing goes round one."""
    children = [inside[path] for child, _ in module.named_children() if (path := f"{name}.{child}" if name else child) in inside]
    children.sort(key=lambda nodes: nodes[0])
    everything = set(inside[name])
    first = {v for n in children[0] for v in n.all_input_nodes} - everything if children else set()
    leaving = {shape(n) for n in everything if any(user not in everything for user in n.users)}
    for before, nodes in pairwise(children):
        entering = {v for n in nodes for v in n.all_input_nodes} - set(nodes)
        round_about = {v for v in entering & first if shape(v) in leaving}
        if round_about or not entering & everything <= set(before):
            return False
    return True


def _holds_weights(block: str, weights: Mapping[str, Weight]) -> bool:
    return any(w.prunable and name.startswith(f"{block}.") for name, w in weights.items())


def _added(nodes: list[fx.Node], walk: Record) -> tuple[int, ...] | None:
    """The shape of the one value that leaves a block, if it is a sum with one of the same dimensions that enters; or None."""
    within = set(nodes)
    leaving = [n for n in nodes if any(user not in within for user in n.users) and shape(n) is not None]
    if len(leaving) != 1:
        return None
    entering = [v for n in nodes for v in n.all_input_nodes if v not in within and v not in walk.sources]
    carried = any(_alike(v, leaving[0], walk) and _carried(leaving[0], v, within, False) for v in dict.fromkeys(entering))
    return shape(leaving[0]) if carried else None


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

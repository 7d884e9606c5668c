"""Which entries of which parameters a value is proportional to: doubling all of them doubles the value.

Attention scores are proportional to what writes the queries, whatever lies between: views, biases, rotary positions, norms.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from pomona.graph.nodes import arguments, name_of, tensor_names

FEW = 64  # numbers of a constant that are looked at
Entries = dict[str, Tensor]  # parameter -> bool that broadcasts to its shape

_THROUGH = frozenset({
    "view", "reshape", "reshape_as", "view_as", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute",
    "transpose", "t", "numpy_T",
    "contiguous", "clone", "split", "split_with_sizes", "chunk", "unbind", "getitem", "select", "slice", "narrow", "expand",
    "to", "_to_copy", "type_as", "alias", "detach", "dropout", "neg", "index", "index_select", "repeat", "repeat_interleave",
    "div", "div_", "movedim", "roll",
})  # fmt: skip
_AFFINE: Mapping[str, tuple[str, str]] = {
    "linear": ("weight", "bias"), "addmm": ("mat2", "self"), "layer_norm": ("weight", "bias"), "rms_norm": ("weight", ""),
    "group_norm": ("weight", "bias"), "batch_norm": ("weight", "bias"), "conv1d": ("weight", "bias"),
    "conv2d": ("weight", "bias"), "conv3d": ("weight", "bias"),
}  # fmt: skip
_LAST = ("linear", "addmm", "layer_norm", "rms_norm")  # whose channels are the last dimensions
_EVERY = frozenset({"add", "add_", "sub", "sub_", "cat", "stack"})
_ANY = frozenset({"mul", "mul_", "matmul", "bmm", "mm", "einsum"})


class Proportions:
    """Answers for the nodes of one program."""

    def __init__(self, program: ExportedProgram) -> None:
        self.names = tensor_names(program)
        self.parameters = set(program.graph_signature.inputs_to_parameters)
        self.constants = program.constants
        self.live: set[fx.Node] = set()  # what depends on the inputs of the model
        self.ways: dict[fx.Node, list[fx.Node] | None] = {}
        self.known: dict[str, list[Tensor] | None] = {}  # by what is computed: blocks of one kind ask the same again and again
        for n in program.graph.nodes:
            if (n.op == "placeholder" and n.name not in self.names) or not self.live.isdisjoint(n.all_input_nodes):
                self.live.add(n)

    def entries(self, node: fx.Node) -> Entries | None:
        """The parameters' entries that reach a node's value and that it is proportional to; None where there are none."""
        if self.way(node) is None:
            return None
        order = list(self._order(node))
        told = self._told(order)
        if told not in self.known:
            self.known[told] = self._reached(node, order)
        masks, leaves = self.known[told], (n for n in order if n.op == "placeholder")
        return None if masks is None else {self.names[n.name]: mask for n, mask in zip(leaves, masks, strict=True)}

    def _reached(self, node: fx.Node, order: Sequence[fx.Node]) -> list[Tensor] | None:
        """Which entries of the leaves have a gradient, leaf by leaf; None where the value cannot be computed."""
        leaves: dict[fx.Node, Tensor] = {}
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = self._value(node, order, leaves)
            if found is None:
                return None
            grads = torch.autograd.grad(found.sum(), list(leaves.values()))
        return [grad != 0 for grad in grads]

    def _told(self, order: Sequence[fx.Node]) -> str:
        """What `_value` computes, without the names: the ops, on whose results, and the shapes and constants beside them."""
        number = {n: f"#{place}" for place, n in enumerate(order)}

        def told(n: fx.Node) -> str:
            value = n.meta["val"]
            if n in number:
                return number[n]
            held = None if not isinstance(value, Tensor) or value.is_floating_point() else self._held(n)
            return f"{value} {id(held) if held is not None and held.numel() > FEW else held}"

        return "; ".join(
            f"{n.meta['val']} {_rows(n, number)}" if n.op == "placeholder" else f"{n.target} {_named(n, told)}" for n in order
        )

    def way(self, node: Any) -> list[fx.Node] | None:
        """The inputs of a node that have to grow for its value to grow by the same factor; [] for a parameter itself."""
        if not isinstance(node, fx.Node):
            return None
        if node not in self.ways:
            self.ways[node] = self._way(node)
        return self.ways[node]

    def _way(self, node: fx.Node) -> list[fx.Node] | None:
        if node.op == "placeholder":
            return [] if node.name in self.parameters else None
        name = name_of(node)
        if name in _THROUGH:
            wanted = node.all_input_nodes[:1]
        elif name in _AFFINE:
            given = arguments(node)
            wanted = [given[word] for word in _AFFINE[name] if given.get(word) is not None]
        elif name in _EVERY:
            wanted = node.all_input_nodes if len(node.all_input_nodes) == _operands(node) else []
        elif name in _ANY:
            order = sorted(node.all_input_nodes, key=lambda n: n in self.live)
            wanted = next(([n] for n in order if self.way(n) is not None), [])
        else:
            return None
        return wanted if wanted and all(self.way(n) is not None for n in wanted) else None

    def _value(self, node: fx.Node, order: Sequence[fx.Node], leaves: dict[fx.Node, Tensor]) -> Any:
        """The node's value for random parameters, with random numbers for all that it need not be proportional to."""
        done: dict[fx.Node, Any] = {}
        inside = set(order)
        for n in order:
            if n.op == "placeholder":
                value = n.meta["val"]
                shape = (len(value), *(1,) * (value.dim() - 1)) if _rows(n, inside) else value.shape
                done[n] = leaves[n] = torch.rand(shape, dtype=value.dtype).add_(0.5).requires_grad_()
                continue
            if name_of(n) in _AFFINE:
                done[n] = _affine(n, done)
                continue
            beside = [v for v in n.all_input_nodes if v not in done]
            values = {v: self._stand_in(v) for v in beside}
            if any(value is None for value in values.values()):
                return None
            args, kwargs = fx.map_arg((n.args, dict(n.kwargs)), {**done, **values}.__getitem__)
            done[n] = n.target(*args, **kwargs)  # type: ignore[operator]
        return done[node]

    def _order(self, node: fx.Node) -> Iterator[fx.Node]:
        """The nodes of all ways back, sources first."""
        seen: dict[fx.Node, None] = {}
        front = [node]
        while front:
            n = front.pop()
            seen[n] = None
            front += [v for v in self.way(n) or () if v not in seen]
        return iter(sorted(seen))

    def _stand_in(self, node: fx.Node) -> Tensor | None:
        value = node.meta["val"]
        return torch.rand(value.shape, dtype=value.dtype) + 0.5 if value.is_floating_point() else self._held(node)

    def _held(self, node: fx.Node) -> Tensor | None:
        """The constant that a node stands for; None where it is none."""
        while name_of(node) in ("lift_fresh_copy", "detach_", "detach", "clone", "alias"):
            node = node.all_input_nodes[0]
        held = self.constants.get(self.names.get(node.name, ""))
        return held if isinstance(held, Tensor) else None


def _rows(weight: fx.Node, inside: Container[fx.Node]) -> bool:
    """Whether all entries of a row of this weight are one for those of its readers that matter."""
    readers = [user for user in weight.users if user in inside]
    return bool(readers) and all(_writes(weight, user) for user in readers)


def _named(node: fx.Node, told: Callable[[fx.Node], str]) -> Any:
    """What an op is called with, nodes as they are told."""
    return fx.map_arg((node.args, dict(node.kwargs)), told)  # type: ignore[arg-type]


def _writes(weight: fx.Node, user: fx.Node) -> bool:
    """Whether an op makes each channel of one row of this weight: then all entries of a row are one for our question."""
    name = name_of(user)
    return name in _AFFINE and name != "addmm" and not name.endswith("_norm") and arguments(user)["weight"] is weight


def _affine(node: fx.Node, done: Mapping[fx.Node, Any]) -> Tensor:
    """Sums of the weights that each channel is written by: for the question which they are, one input of ones is as good as any.

    One vector of channels, spread over examples and positions: a product for every one of them would take most of the time.
    """
    (word, shift), name = _AFFINE[name_of(node)], name_of(node)
    given, value = arguments(node), node.meta["val"]
    weight: Tensor = done[given[word]].T if name == "addmm" else done[given[word]]
    if not name.endswith("_norm"):
        weight = weight.flatten(1).sum(1) if weight.dim() > 1 else weight.sum()  # rows may be one entry long
    channels = weight if given.get(shift) is None else weight + done[given[shift]]
    if name not in _LAST:  # channels come before what there is one of for every position
        places = value.dim() - 2 if name.endswith("_norm") else done[given[word]].dim() - 2
        channels = channels.reshape(-1, *(1,) * places)
    return channels.to(value.dtype).expand(value.shape).contiguous()  # what is traced views it and writes into it


def _operands(node: fx.Node) -> int:
    """How many summands or pieces an op has, numbers included."""
    given = node.args[0]
    return len(given) if isinstance(given, (list, tuple)) else 2

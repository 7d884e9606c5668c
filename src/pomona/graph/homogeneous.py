"""Which entries of which parameters a value is proportional to: doubling all of them doubles the value.

Attention scores are proportional to what writes the queries, whatever lies between: views, biases, rotary positions, norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from pomona.graph.nodes import arguments, name_of, tensor_names

Entries = dict[str, Tensor]  # parameter -> bool of its shape

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
        for n in program.graph.nodes:
            if (n.op == "placeholder" and n.name not in self.names) or not self.live.isdisjoint(n.all_input_nodes):
                self.live.add(n)

    def entries(self, node: fx.Node) -> Entries | None:
        """The parameters' entries that reach a node's value and that it is proportional to; None where there are none."""
        if self.way(node) is None:
            return None
        leaves: dict[fx.Node, Tensor] = {}
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = self._value(node, leaves, {})
            if found is None:
                return None
            grads = torch.autograd.grad(found.sum(), list(leaves.values()))
        return {self.names[n.name]: grad != 0 for n, grad in zip(leaves, grads, strict=True)}

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

    def _value(self, node: fx.Node, leaves: dict[fx.Node, Tensor], done: dict[fx.Node, Any]) -> Any:
        """The node's value for random parameters, with random numbers for all that it need not be proportional to."""
        for n in self._order(node):
            if n.op == "placeholder":
                done[n] = leaves[n] = torch.rand(n.meta["val"].shape, dtype=n.meta["val"].dtype).add_(0.5).requires_grad_()
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
        if value.is_floating_point():
            return torch.rand(value.shape, dtype=value.dtype) + 0.5
        while name_of(node) in ("lift_fresh_copy", "detach_", "detach", "clone", "alias"):
            node = node.all_input_nodes[0]
        held = self.constants.get(self.names.get(node.name, ""))
        return held if isinstance(held, Tensor) else None


def _operands(node: fx.Node) -> int:
    """How many summands or pieces an op has, numbers included."""
    given = node.args[0]
    return len(given) if isinstance(given, (list, tuple)) else 2

"""The masked model, run op by op, with normalisers looking at the kept entries only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from pomona.graph.expr import Dims, Expr, Keep, atoms, index, norm, size, take
from pomona.graph.facts import Numbers
from pomona.graph.graph import Graph
from pomona.graph.nodes import name_of, short_cuts
from pomona.graph.precise import precisely, wide, widened
from pomona.graph.rewrite import resized
from pomona.graph.zeros import LEAN


def reference(
    masked: nn.Module, graph: Graph, keep: Keep, dead_blocks: Iterable[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Tensor]:
    """The output tensors, in float64, of the masked model; what pruning must reproduce exactly, whatever it removes.

    Softmax, LayerNorm, a mean: over a pruned axis, they differ between "zero" and "gone". Here such an op is evaluated on the
    kept entries and its result put back among zeros, so that the comparison is exact for every axis.
    """
    module = graph.program.graph_module
    runner = _Runner(module, graph, keep, short_cuts(module.graph, tuple(dead_blocks)))
    with precisely(LEAN):
        out = runner.run(*_inputs(masked, graph, args, kwargs))
    return kept_outputs(tensors_of(out), graph, keep)


def kept_outputs(outputs: list[Tensor], graph: Graph, keep: Keep) -> list[Tensor]:
    """What the small model shows of the masked model's output tensors: all, except where it may be narrower."""
    if not keep:
        return outputs
    shown = [n for n in pytree.tree_leaves(graph.program.graph.output_node().args) if isinstance(n, fx.Node)]
    dims = [d for n in shown if isinstance(d := graph.values.get(n), tuple)]
    if len(dims) != len(outputs):
        return outputs
    return [take(tensor, d, keep) for tensor, d in zip(outputs, dims, strict=True)]


def answer(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], zeros: bool = False) -> list[Tensor]:
    """The output tensors of a float64 model on copies of these inputs. `zeros`: many of its weights are, so it pays to look."""
    with precisely(LEAN if zeros else {}):
        return tensors_of(model(*widened(args), **widened(dict(kwargs))))


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in a model's output, in order, in float64."""
    return [wide(leaf) for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


class _Runner(fx.Interpreter):
    """Frees each value after its last use."""

    def __init__(self, module: fx.GraphModule, graph: Graph, keep: Keep, ways: Mapping[fx.Node, tuple[str, fx.Node]]) -> None:
        super().__init__(module)
        self.traced, self.keep, self.short_cuts = graph, keep, ways
        self.carried: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.short_cuts:
            block, entry = self.short_cuts[n]
            if block not in self.carried:
                self.carried[block] = self.env[entry]  # later its last use may be over
            return self.carried[block]
        if name_of(n).startswith("wrap_with"):
            region = next(a for a in n.args if isinstance(a, fx.Node) and isinstance(self.env.get(a), fx.GraphModule))
            return self._region(self.env[region], n.args[n.args.index(region) + 1 :])
        if atoms(*self.traced.normed.get(n, ())).keys() & self.keep.keys():
            return self._on_kept(n)
        return super().run_node(n)

    def _region(self, module: fx.GraphModule, args: Any) -> Any:
        """A region with its own settings (no gradients, autocast): walked in place."""
        inner = _Runner(module, self.traced, self.keep, self.short_cuts)
        given: Any = self.map_nodes_to_values(args, next(iter(module.graph.nodes)))
        return inner.run(*given)

    def _on_kept(self, n: fx.Node) -> Any:
        values = self.traced.values

        def narrowed(v: fx.Node) -> Any:
            dims = values.get(v)
            return take(self.env[v], dims, self.keep) if isinstance(dims, tuple) else self.env[v]

        target, args, kwargs = resized(n, self.traced, lambda e: size(e, self.keep))
        small = target(*fx.map_arg(args, narrowed), **fx.map_arg(kwargs, narrowed))
        dims, fact = values[n], self.traced.facts.get(n)
        along = fact.along if isinstance(fact, Numbers) else repeat(None)
        if isinstance(dims, tuple):
            return put_back(_renumbered(small, next(iter(along)), self.keep), dims, self.keep)
        return tuple(
            put_back(_renumbered(t, e, self.keep), d, self.keep) if isinstance(d, tuple) else t
            for t, d, e in zip(small, dims or (), along, strict=False)
        )


def _renumbered(tensor: Tensor, along: Expr | None, keep: Keep) -> Tensor:
    """Values that are positions among the kept ones as positions among all."""
    return tensor if along is None else index(along, keep).to(tensor.device)[tensor]


def put_back(tensor: Tensor, dims: Dims, keep: Keep) -> Tensor:
    """Kept entries at their places in zeros of the full size: the inverse of `take`."""
    for dim, e in enumerate(map(norm, dims)):
        kept = index(e, keep)
        if len(kept) != e.n:
            full = tensor.new_zeros(*tensor.shape[:dim], e.n, *tensor.shape[dim + 1 :])
            tensor = full.index_copy_(dim, kept.to(tensor.device), tensor)
    return tensor


def _inputs(masked: nn.Module, graph: Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """What the program's placeholders stand for, in float64: the masked model's state, constants, then the inputs."""
    program = graph.program
    names = program.example_inputs[1]  # in the order in which the program expects its keywords
    given = iter(pytree.tree_leaves(widened((tuple(args), {name: kwargs[name] for name in names}))))
    state = {**dict(masked.named_parameters(remove_duplicate=False)), **dict(masked.named_buffers(remove_duplicate=False))}
    found: list[Any] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            found.append(next(given))
        else:
            value = state[spec.target] if spec.target in state else {**program.state_dict, **program.constants}[spec.target]
            if isinstance(value, Tensor):
                # Parameters are shared: the rare pass that writes to them (a table with a largest norm) writes the same twice.
                value = wide(value) if isinstance(value, nn.Parameter) else wide(value).clone()
            found.append(value)
    return found

"""The exported program at its new sizes: every length that tracing wrote into an op comes from the dimensions anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from math import sqrt
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature

from pomona.graph.blocks import renamed
from pomona.graph.export import runnable
from pomona.graph.expr import Expr, Keep, size, take
from pomona.graph.facts import Counted, Fact, Groups, HeadSize, Piece, Pieces
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks
from pomona.graph.nodes import arguments, call, name_of, short_cuts, traced
from pomona.vocabulary import Plan

Length: TypeAlias = Callable[[Expr], int]  # how long a dimension is now


def rewritten(state: Mapping[str, Tensor], graph: Graph, keep: Keep, plan: Plan) -> fx.GraphModule:
    """The program as a module that holds `state`: tensors of the new sizes by their names in the traced model.

    It computes the evaluation-mode forward pass for inputs of the traced shapes; it can be trained, saved and exported. Its
    tensors have the names that they would have in the resized module.
    """
    program = graph.program
    module = deepcopy(program.graph_module)
    twins = dict(_twins(program.graph_module, module))
    for n, twin in twins.items():
        if n.op == "call_function":
            target, args, kwargs = resized(n, graph, lambda e: size(e, keep))
            twin.target = target
            twin.args, twin.kwargs = fx.map_arg((args, kwargs), twins.__getitem__)
    _cut_out(program, twins, dead_blocks(plan))
    signature = _renamed(module.graph, program, twins, plan)
    module.recompile()
    constants = {
        name: take(value, graph.dims[name], keep) if name in graph.dims else value for name, value in program.constants.items()
    }
    named = {new: tensor for name, tensor in {**constants, **state}.items() if (new := renamed(name, plan)) is not None}
    small = ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=signature,
        state_dict={new: named[new] for name in program.state_dict if (new := renamed(name, plan)) is not None},
        range_constraints=program.range_constraints,
        module_call_graph=deepcopy(program.module_call_graph),
        constants={new: named[new] for name in program.constants if (new := renamed(name, plan)) is not None},
        verifiers=program.verifiers,
    )
    made = runnable(small)
    assert isinstance(made, fx.GraphModule)
    return made


def resized(n: fx.Node, graph: Graph, length: Length) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A node's op and arguments at the new sizes: (target, args, kwargs), nodes standing for themselves."""
    if not hasattr(n.target, "_schema"):
        return n.target, n.args, dict(n.kwargs)
    fact, given = graph.facts.get(n), arguments(n)
    if isinstance(fact, Pieces):
        return torch.ops.aten.split_with_sizes.default, (n.args[0], [length(e) for e in fact.lengths], fact.dim), {}
    changed = _by_fact(fact, given, length) | _by_lengths(graph.values.get(n), given, length)
    if name_of(n) == "unflatten" and changed:
        return torch.ops.aten.reshape.default, (n.args[0], changed["sizes"]), {}
    if all(_same(given[word], value) for word, value in changed.items()):
        return n.target, n.args, dict(n.kwargs)
    args, kwargs = call(n, {**given, **changed})
    return n.target, args, kwargs


def _by_fact(fact: Fact | None, given: Mapping[str, Any], length: Length) -> dict[str, Any]:
    """What the fact about a node says of its arguments at the new sizes."""
    if isinstance(fact, Piece):
        start, long = length(fact.start), length(fact.length)
        return {"start": start, "length": long} if "length" in given else {"start": start, "end": start + long}
    if isinstance(fact, Groups):
        return {"num_groups" if "num_groups" in given else "groups": length(fact.groups)}
    if isinstance(fact, Counted):
        classes = length(fact.classes)
        return {"num_classes": classes} if "num_classes" in given else {"bins": classes, "max": classes - 1}
    if isinstance(fact, HeadSize) and given.get("scale") is None:
        # Without a scale the op would divide by the root of the head width that is left: another function.
        return {"scale": 1 / sqrt(fact.size)}
    return {}


def _by_lengths(dims: object, given: Mapping[str, Any], length: Length) -> dict[str, Any]:
    """Arguments that list the lengths of the one tensor that comes out."""
    if not isinstance(dims, tuple):
        return {}
    lengths = [length(e) for e in dims]
    if "normalized_shape" in given:
        return {"normalized_shape": lengths[len(lengths) - len(given["normalized_shape"]) :]}
    if given.get("sizes") is not None and "dim" in given:  # unflatten: the lengths of one dimension
        return {"sizes": lengths} if lengths != [e.n for e in dims] else {}
    if isinstance(counts := given.get("repeats"), (list, tuple)):
        ones = [1] * (len(counts) - traced(given["self"]).dim()) + list(traced(given["self"]).shape)
        return {"repeats": [_open(k, n) if was == 1 else k for k, n, was in zip(counts, lengths, ones, strict=True)]}
    listed = [word for word in ("size", "shape") if isinstance(given.get(word), (list, tuple))]
    return {
        word: [_open(*pair) for pair in zip(given[word], lengths, strict=True)]
        for word in listed
        if len(given[word]) == len(lengths)
    }


def _open(given: Any, length: int) -> Any:
    """What is worked out as the program runs is not written down: a computed length, or what is left over."""
    return given if isinstance(given, fx.Node) or given == -1 else length


def _same(a: Any, b: Any) -> bool:
    return list(a) == list(b) if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) else bool(a == b)


def _twins(a: fx.GraphModule, b: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Nodes of a graph and of its copy, regions within it included."""
    others = dict(b.named_modules())
    for path, module in a.named_modules():
        if isinstance(module, fx.GraphModule):
            yield from zip(module.graph.nodes, others[path].graph.nodes, strict=True)  # type: ignore[union-attr, arg-type]


def _cut_out(program: ExportedProgram, twins: Mapping[fx.Node, fx.Node], gone: Iterable[str]) -> None:
    """Lead round the blocks that are gone, and erase what they did (some of it may write in place)."""
    inside = short_cuts(program.graph, gone)
    for n, (_, entry) in inside.items():
        while entry in inside:  # the block before is gone as well
            entry = inside[entry][1]
        for user in [user for user in n.users if user not in inside]:
            twins[user].replace_input_with(twins[n], twins[entry])
    for n in reversed(inside):
        twins[n].graph.erase_node(twins[n])


def _renamed(graph: fx.Graph, program: ExportedProgram, twins: Mapping[fx.Node, fx.Node], plan: Plan) -> ExportGraphSignature:
    """The signature with the new names of tensors and of copied nodes; placeholders of tensors that are gone are erased."""
    copies = {n.name: twin for n, twin in twins.items() if n.graph is program.graph}

    def moved(argument: Any) -> Any:
        return replace(argument, name=copies[argument.name].name) if argument.name in copies else argument

    inputs = []
    for spec in program.graph_signature.input_specs:
        new = None if spec.target is None else renamed(spec.target, plan)
        if spec.target is not None and new is None:
            graph.erase_node(copies[spec.arg.name])
        else:
            inputs.append(replace(spec, arg=moved(spec.arg), target=new))
    outputs = [replace(spec, arg=moved(spec.arg)) for spec in program.graph_signature.output_specs]
    return ExportGraphSignature(inputs, outputs)

"""Reading the nodes of an exported program: ops, arguments, modules, state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from pomona.graph.lengths import PLAIN


def name_of(n: fx.Node) -> str:
    """The plain name of an op: `conv2d`, `getitem`; empty for inputs and outputs."""
    if n.op != "call_function":
        return ""
    schema = getattr(n.target, "_schema", None)
    return str(schema.name).split("::")[-1] if schema else str(getattr(n.target, "__name__", n.target))


def arguments(n: fx.Node) -> dict[str, Any]:
    """An op's arguments by the names of its schema, defaults included; the keywords of what has none."""
    schema = getattr(n.target, "_schema", None)
    if schema is None:
        return dict(n.kwargs)
    found: dict[str, Any] = {}
    for position, argument in enumerate(schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        found[argument.name] = n.args[position] if position < len(n.args) else n.kwargs.get(argument.name, default)
    return found


def call(n: fx.Node, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of `arguments`: (positional, keywords) for the node's op."""
    schema = n.target._schema.arguments  # type: ignore[union-attr]
    return tuple(given[a.name] for a in schema if not a.kwarg_only), {a.name: given[a.name] for a in schema if a.kwarg_only}


def every_node(program: ExportedProgram) -> list[fx.Node]:
    """The nodes of a program in order, then those of its regions."""
    modules = (m for m in program.graph_module.modules() if isinstance(m, fx.GraphModule))
    return [n for module in modules for n in module.graph.nodes]


def traced(n: fx.Node) -> Any:
    """What a node was traced to: a tensor without values, several of them, or something else. Lengths are numbers."""
    return n.meta.get(PLAIN, n.meta.get("val"))


def frames(n: fx.Node) -> list[str]:
    """The modules whose forward was running when a node was traced, outermost first."""
    return [str(path).split("@")[0] for path, _ in n.meta.get("nn_module_stack", {}).values()]


def tensor_names(program: ExportedProgram) -> dict[str, str]:
    """Placeholder name -> the name of the parameter, buffer or constant that it stands for."""
    specs = program.graph_signature.input_specs
    return {spec.arg.name: spec.target for spec in specs if spec.target is not None}


def short_cuts(graph: fx.Graph, blocks: Iterable[str]) -> dict[fx.Node, tuple[str, fx.Node]]:
    """Every node of a block that is left out -> (the block, the node whose value goes round it)."""
    found: dict[fx.Node, tuple[str, fx.Node]] = {}
    for block in blocks:
        inside = {n: None for n in graph.nodes if block in frames(n)}
        leaving = [n for n in inside if any(user not in inside for user in n.users)]
        shapes = {shape(n) for n in leaving}
        entering = (v for n in inside for v in n.all_input_nodes if v not in inside)
        entry = next(v for v in entering if shape(v) is not None and shape(v) in shapes)
        found |= dict.fromkeys(inside, (block, entry))
    return found


def shape(n: fx.Node) -> tuple[int, ...] | None:
    """The traced shape of a node's value; None where it is not one tensor."""
    value = traced(n)
    return tuple(value.shape) if isinstance(value, Tensor) else None

"""The walk over an exported program: every op gets its dimensions from its rule, in order, once."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Literal

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from pomona.graph.algebra import Misfit
from pomona.graph.expr import Atom, Const, Dims, Expr, atoms, freeze, fresh
from pomona.graph.facts import Piece
from pomona.graph.nodes import arguments, frames, name_of, tensor_names, traced
from pomona.graph.op import Op, Record, Rule, Value, rule_of
from pomona.graph.positions import hold_numbers, pass_numbers
from pomona.graph.rules import load

Release = Literal["output"]  # what may change although users see it


def infer(program: ExportedProgram, ties: Mapping[str, str], release: Release | None = None) -> tuple[Record, dict[str, Dims]]:
    """What the rules found, and the dimensions of every parameter, buffer and constant by canonical name.

    Inputs and outputs of the model are frozen, outputs unless they are released. An op without a rule, or whose rule does not
    understand what it sees, freezes its inputs and is listed in the record's `unknown`; it never raises.
    """
    load()
    record = Record()
    tensors: dict[str, Dims] = {}
    names = tensor_names(program)
    kinds = dict(program.graph_signature.inputs_to_parameters)
    for n in program.graph.nodes:
        value = traced(n)
        if n.op != "placeholder" or not isinstance(value, Tensor):
            continue
        if n.name not in names:
            record.values[n] = tuple(Const(k, "input") for k in value.shape)
            record.live.add(n)
            continue
        name = ties.get(names[n.name], names[n.name])
        # What the code itself writes down, a list of positions, say, is not there to be cut.
        literal = name.rpartition(".")[2].startswith("lifted_tensor")
        if literal and isinstance(written := program.constants.get(name), Tensor):
            record.literals[n] = written
        dims: Dims = tuple(Const(k, "written in the code") if literal else fresh(k) for k in value.shape)
        record.values[n] = tensors.setdefault(name, dims)
        if n.name in kinds:
            record.sources[n] = (name, tuple(range(value.dim())))
    _walk(program.graph_module, record)
    for n in answers(program) if release is None else ():
        for e in _expressions(record.values.get(n)):
            freeze(e, "output")
    for n in program.graph.output_node().all_input_nodes:
        hold_numbers(record.numbers.get(n), "output")
    _freeze_cut_off(record)
    return record, tensors


def _freeze_cut_off(record: Record) -> None:
    """What is cut off and read by nothing was left out for these inputs: rows of a table that longer ones would reach."""
    lost: set[Atom] = set()
    read: set[Atom] = set()
    for n, value in record.values.items():
        if n.op == "call_function" and n.target is not operator.getitem and not name_of(n).startswith("wrap_with"):
            ending = set(atoms(*(e for v in n.all_input_nodes for e in _expressions(record.values.get(v)))))
            ending -= set(atoms(*_expressions(value)))
            (lost if isinstance(record.facts.get(n), Piece) else read).update(ending)
    for atom in lost - read:
        freeze(atom, "beyond what these inputs reach")


def answers(program: ExportedProgram) -> list[fx.Node]:
    """The outputs whose dimensions users rely on: all of them.

    Of a record with named fields these are the first and what is computed beside it; the others (the last state of an encoder
    beside the logits) are glimpses of the way there, which may become narrower with the model.
    """
    found = list(program.graph.output_node().all_input_nodes)
    spec = program.call_spec.out_spec
    if spec is None or spec.type is None or not is_dataclass(spec.type) or not found:
        return found
    way: set[fx.Node] = set()
    front = [found[0]]
    while front:
        n = front.pop()
        if n not in way:
            way.add(n)
            front += n.all_input_nodes
    return [n for n in found if n is found[0] or n not in way]


def _walk(module: fx.GraphModule, record: Record) -> Any:
    """Visit a (sub-)graph whose placeholders are known; returns what it returns."""
    for n in module.graph.nodes:
        if n.op == "get_attr":
            held = getattr(module, n.target)
            record.values[n] = tuple(Const(k) for k in held.shape) if isinstance(held, Tensor) else None
        elif n.op == "output":
            given = n.args[0]
            return [record.values.get(v) for v in given] if isinstance(given, (list, tuple)) else record.values.get(given)
        elif n.op == "call_function":
            if not record.live.isdisjoint(n.all_input_nodes):
                record.live.add(n)
            record.values[n] = _visit(n, module, record)
    return None


def _visit(n: fx.Node, module: fx.GraphModule, record: Record) -> Value:
    if n.target is operator.getitem:
        several = record.values.get(n.args[0])  # type: ignore[arg-type]
        picked = n.args[1]
        if isinstance(several, list) and isinstance(picked, int):
            if isinstance(numbers := record.numbers.get(n.args[0]), list):  # type: ignore[arg-type]
                record.numbers[n] = numbers[picked]
            if n.args[0] in record.pieces:
                record.sources[n] = record.sources[n.args[0]]  # type: ignore[index]
                record.pieces.add(n)
            return several[picked]
        return None
    region = _region(n, module)
    if region is not None:
        # Regions under autocast or without gradients are the same function: walk them in place.
        inputs = n.args[next(i for i, a in enumerate(n.args) if isinstance(a, fx.Node) and a.op == "get_attr") + 1 :]
        for placeholder, given in zip(region.graph.find_nodes(op="placeholder"), inputs, strict=True):
            if isinstance(given, fx.Node):
                record.values[placeholder] = record.values.get(given)
                if given in record.live:
                    record.live.add(placeholder)
                if given in record.sources:
                    record.sources[placeholder] = record.sources[given]
                if given in record.numbers:
                    record.numbers[placeholder] = record.numbers[given]
        found: Value = _walk(region, record)
        out: Any = region.graph.output_node().args[0]
        known = record.numbers.get
        record.numbers[n] = [known(v) for v in out] if isinstance(out, (list, tuple)) else known(out)
        return found
    return _ruled(n, record)


def _region(n: fx.Node, module: fx.GraphModule) -> fx.GraphModule | None:
    if not name_of(n).startswith("wrap_with"):
        return None
    held = (
        getattr(module, a.target) for a in n.args if isinstance(a, fx.Node) and a.op == "get_attr" and isinstance(a.target, str)
    )
    return next((m for m in held if isinstance(m, fx.GraphModule)), None)


def _ruled(n: fx.Node, record: Record) -> Value:
    name, value = name_of(n), traced(n)
    rule = rule_of(n.target, name)
    if not any(isinstance(v, Tensor) for v in (value if isinstance(value, (list, tuple)) else (value,))):
        return None  # sizes, assertions
    if rule is None and not any(record.values.get(v) for v in n.all_input_nodes):
        return _constants(value)
    try:
        found = _apply(rule, Op(n, name, arguments(n), value, record))
        pass_numbers(n, name, record)
        return found
    # IndexError, KeyError, TypeError: the op has fewer dimensions, other arguments or computed ones than the rule knows of.
    except (Misfit, IndexError, KeyError, TypeError) as error:
        where = (frames(n) or [""])[-1]
        record.unknown.append((name, f"{where}: {error}"))
        why = f"op {name} ({where})" if where else f"op {name}"
        for v in n.all_input_nodes:
            for e in _expressions(record.values.get(v)):
                freeze(e, why)
            hold_numbers(record.numbers.get(v), why)
        return _constants(value, why)


def _apply(rule: Rule | None, op: Op) -> Value:
    """What the rule says, held against the traced sizes."""
    if rule is None:
        raise Misfit(f"no rule for {op.name}")
    found = rule(op)
    if isinstance(op.value, Tensor):
        return _fitting(found, op.value)
    if len(found) != len(op.value):
        raise Misfit(f"{op.name} has {len(op.value)} outputs")
    return [_fitting(f, v) if isinstance(v, Tensor) else None for f, v in zip(found, op.value, strict=True)]


def _fitting(dims: Any, value: Tensor) -> Dims:
    if [e.n for e in dims] != list(value.shape):
        raise Misfit(f"dimensions {dims} where {tuple(value.shape)} was traced")
    return tuple(dims)


def _constants(value: Any, why: str = "constant") -> Value:
    return [_constant(v, why) for v in value] if isinstance(value, (list, tuple)) else _constant(value, why)


def _constant(value: Any, why: str = "constant") -> Dims | None:
    return tuple(Const(k, why) for k in value.shape) if isinstance(value, Tensor) else None


def _expressions(value: Any) -> Iterator[Expr]:
    for e in value or ():
        if isinstance(e, (list, tuple)):
            yield from e
        elif e is not None:
            yield e


def tied(model: nn.Module) -> dict[str, str]:
    """Every further name of a parameter or buffer -> its first name; tensors are one when they share their elements."""
    first: dict[Any, str] = {}
    found: dict[str, str] = {}
    for source in (model.named_parameters, model.named_buffers):
        for name, t in source(remove_duplicate=False):
            key = id(t) if t.is_meta or not t.numel() else (t.data_ptr(), tuple(t.shape), t.stride(), t.dtype)
            canonical = first.setdefault(key, name)
            if canonical != name:
                found[name] = canonical
    return found

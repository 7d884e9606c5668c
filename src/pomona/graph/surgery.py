"""A plan carried out: the same module with smaller tensors, proven to compute what the masked one does."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pomona.graph.blocks import drop_blocks, renamed
from pomona.graph.expr import Dims, Keep, size, take
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks, masked, write
from pomona.graph.mend import mend
from pomona.graph.precise import precise
from pomona.graph.proof import TOLERANCE, Form, answer, difference
from pomona.graph.reference import reference
from pomona.graph.rewrite import rewritten
from pomona.graph.units import kept_units
from pomona.vocabulary import Plan, ProofError

__all__ = ["Realised", "kept_units", "realise", "renamed"]


@dataclass(frozen=True, eq=False)
class Realised:
    """`form` says what the model is: the "eager" module resized, the rewritten "graph", or "masked" at its old size.

    "graph" is the fallback where the Python code of the module cannot be brought to the new sizes; `notes` say why.
    """

    model: nn.Module
    form: Form
    notes: tuple[str, ...] = ()


def realise(model: nn.Module, graph: Graph, plan: Plan) -> Realised:
    """The model without what the plan removes; the input model is untouched and shares no storage with the result.

    Raises InputError where the plan was made for another model, ProofError where neither the resized module nor the
    rewritten program computes what the masked model does.
    """
    keep, gone = kept_units(graph, plan), dead_blocks(plan)
    whole = deepcopy(model)
    write(whole, plan)
    if not keep and not gone:
        return Realised(whole, "masked")
    args, kwargs = graph.program.example_inputs
    expected = reference(precise(masked(model, plan)), graph, keep, gone, args, kwargs)
    small = deepcopy(whole)
    shrink(small, graph, keep)
    drop_blocks(small, plan)
    failure = mend(small, whole, graph, keep, plan, expected)
    if failure is None:
        return Realised(small, "eager")
    shrink(whole, graph, keep)
    program = rewritten(state_of(whole), graph, keep, plan)
    error = difference(answer(precise(program), args, kwargs), expected)
    if not error <= TOLERANCE:
        raise ProofError(f"Neither the resized module ({failure}) nor its program (error {error:.1e}) equals the masked model.")
    notes = [f"The module could not be resized in place ({failure}); this is its rewritten program."]
    if hooked := [path or "the model" for path, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]:
        notes.append(f"The program computes what the hooks on {', '.join(hooked)} changed, but no longer calls them.")
    return Realised(program, "graph", tuple(notes))


@torch.no_grad()
def shrink(model: nn.Module, graph: Graph, keep: Keep) -> None:
    """Cut every parameter and buffer to the kept entries, in place; tied ones stay tied, trainable ones trainable.

    So are tensors that a module holds as plain attributes.
    """
    made: dict[int, Tensor] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            dims = dims_of(graph, prefix + name)
            if id(parameter) not in made and dims and changes(dims, keep):
                made[id(parameter)] = _like(parameter, take(parameter.detach(), dims, keep))
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            dims = dims_of(graph, prefix + name)
            if id(buffer) not in made and dims and changes(dims, keep):
                made[id(buffer)] = take(buffer, dims, keep)
        for name, plain in vars(module).items():
            dims = dims_of(graph, prefix + name) if isinstance(plain, Tensor) else None
            if dims and id(plain) not in made and changes(dims, keep):
                made[id(plain)] = take(plain, dims, keep)
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items(), *vars(module).items()]:
            if tensor is not None and id(tensor) in made:
                setattr(module, name, made[id(tensor)])


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under every name."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def dims_of(graph: Graph, name: str) -> Dims | None:
    """The dimensions of a parameter or buffer under any of its names; None where the traced model does not read it."""
    found = graph.dims.get(graph.ties.get(name, name))
    return tuple(found) if found is not None else None


def changes(dims: Dims, keep: Keep) -> bool:
    """Whether a tensor of these dimensions gets smaller."""
    return any(size(e, keep) != e.n for e in dims)


def _like(old: nn.Parameter, value: Tensor) -> nn.Parameter:
    new = nn.Parameter(value, requires_grad=old.requires_grad)
    new.__dict__.update(old.__dict__)
    return new

"""A plan carried out: the same module with smaller tensors, proven to compute what the masked one does."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pomona.graph.adapt import adapt
from pomona.graph.blocks import drop_blocks, renamed
from pomona.graph.expr import Dims, Keep, size, take
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks, solved, write
from pomona.graph.mend import mend
from pomona.graph.mend_code import adapted
from pomona.graph.precise import precise
from pomona.graph.proof import TOLERANCE, Form, difference
from pomona.graph.reference import answer
from pomona.graph.rehearsal import forget
from pomona.graph.rewrite import rewritten
from pomona.graph.standard import Standard
from pomona.graph.tried import Tried
from pomona.graph.units import kept_units
from pomona.vocabulary import InputError, Plan, ProofError, first_line

__all__ = ["Realised", "kept_units", "realise", "renamed"]


@dataclass(frozen=True, eq=False)
class Realised:
    """`form` says what the model is: the "eager" module resized, the rewritten "graph", or "masked" at its old size.

    "graph" is the fallback where the Python code of the module cannot be brought to the new sizes; `notes` say why. `tried` is
    the float64 twin that was run meanwhile.
    """

    model: nn.Module
    form: Form
    notes: tuple[str, ...] = ()
    tried: Tried | None = None


def realise(model: nn.Module, graph: Graph, plan: Plan, standard: Standard | None = None) -> Realised:
    """The model without what the plan removes; the input model is untouched and shares no storage with the result.

    `standard` is what the masked model answers to the graph's example inputs, where that is known.
    Raises InputError where the plan was made for another model or leaves sizes that torch cannot run, ProofError where
    neither the resized module nor the rewritten program computes what the masked model does.
    """
    keep, gone = kept_units(graph, plan), dead_blocks(plan)
    if not keep and not gone:
        whole = deepcopy(model)
        write(whole, plan)
        return Realised(whole, "masked", tried=Tried(standard.whole, standard.answer) if standard else None)
    args, kwargs = graph.program.example_inputs
    whole = forget(solved(model, plan), args, kwargs)
    expected = (standard or Standard.of(model, graph, plan, args, kwargs)).answer
    small = _cut(whole, graph, keep, plan)
    failure = mend(small, whole, graph, keep, plan, expected)
    if isinstance(failure, Tried):
        return Realised(small, "eager", tried=failure)
    small = _cut(whole, graph, keep, plan)
    still = adapt(small, whole, graph, keep, plan, expected)
    if isinstance(still, Tried):
        names = ", ".join(f"{count} x {name}" for name, count in adapted(small).items())
        note = f"The code of {names} worked out sizes that no longer hold; it was given those that do."
        return Realised(small, "eager", (note,), still)
    program = rewritten(state_of(shrunk(whole, graph, keep)), graph, keep, plan)
    try:
        got = answer(precise(program, borrow=True), args, kwargs)
    # The program's ops are right by construction; some kernels have rules of their own about which sizes go together.
    except RuntimeError as refused:
        raise InputError(
            f"This torch cannot run the model at the sizes of the plan ({first_line(refused)}); keep other counts."
        ) from refused
    error = difference(got, expected)
    if not error <= TOLERANCE:
        raise ProofError(f"Neither the resized module ({failure}) nor its program (error {error:.1e}) equals the masked model.")
    notes = [
        f"The module could not be resized in place ({failure}; with its code adapted: {still}); this is its rewritten program."
    ]
    if hooked := [path or "the model" for path, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]:
        notes.append(f"The program computes what the hooks on {', '.join(hooked)} changed, but no longer calls them.")
    return Realised(program, "graph", tuple(notes))


def _cut(whole: nn.Module, graph: Graph, keep: Keep, plan: Plan) -> nn.Module:
    """A copy with smaller tensors and without dead blocks, its integers as they were."""
    small = shrunk(whole, graph, keep)
    drop_blocks(small, plan)
    return small


@torch.no_grad()
def shrunk(model: nn.Module, graph: Graph, keep: Keep) -> nn.Module:
    """A copy with every parameter and buffer cut to the kept entries; tied ones stay tied, trainable ones trainable.

    So are tensors that a module holds as plain attributes.
    """
    made: dict[int, Tensor] = {}
    for path, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items(), *vars(module).items()]:
            dims = dims_of(graph, f"{path}.{name}" if path else name) if isinstance(tensor, Tensor) else None
            if dims and id(tensor) not in made and changes(dims, keep):
                cut = take(tensor.detach(), dims, keep)
                made[id(tensor)] = _like(tensor, cut) if isinstance(tensor, nn.Parameter) else cut
    return deepcopy(model, made)  # what is in there counts as copied already


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

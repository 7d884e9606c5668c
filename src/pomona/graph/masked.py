"""The original architecture with a plan as zeros: what a pruned model is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from pomona.graph.skip import PassThrough
from pomona.native.applied import apply_
from pomona.vocabulary import InputError, Member, Plan, Site


@torch.no_grad()
def masked(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of the model that carries out a plan without changing a shape; see `mask`."""
    return mask(deepcopy(model), plan)


@torch.no_grad()
def mask(model: nn.Module, plan: Plan) -> nn.Module:
    """Carry out a plan in place without changing a shape, from the plan alone; returns the model.

    Solved tensors are written first; dead elements and every parameter at the positions of dead units become zero;
    dead blocks hand their input on. Buffers stay (a zeroed frequency table would be another function, not a smaller
    one), tied parameters stay tied. Raises InputError where the plan was made for another model.
    """
    write(model, plan)
    for name, block in _dead_blocks(model, plan).items():
        model.set_submodule(name, PassThrough(block))
    return model


@torch.no_grad()
def solved(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy with the tensors that a plan solved and the zeros of its elements, for axes to be cut from.

    Parameters that have neither are the model's own: what axes lose need not become zero before it goes.
    """
    names = [name for decision in plan.decisions.values() for name in decision.tensors]
    names += [member.tensor for site in plan.sites.values() if site.kind == "element" for member in site.members]
    own = {id(_parameter(model, name)) for name in names}
    copy = deepcopy(model, {id(p): p for p in model.parameters() if id(p) not in own})
    write(copy, plan, axes=False)
    return copy


@torch.no_grad()
def write(model: nn.Module, plan: Plan, axes: bool = True) -> None:
    """Solved tensors and zeros of a plan into the parameters of a model, in place; blocks are left alone, `axes` if so told."""
    for decision in plan.decisions.values():
        for name, value in decision.tensors.items():
            parameter = _parameter(model, name)
            if value.shape != parameter.shape:
                there, here = tuple(value.shape), tuple(parameter.shape)
                raise InputError(f"The plan solves {name} as {there}, the model has {here}; use the model it was made for.")
            parameter.copy_(value)
    for name, site in plan.sites.items():
        keep = plan.keep(name)
        if site.kind == "branch" or (site.kind == "axis" and not axes) or bool(keep.all()):
            continue
        for member in site.members:
            if not member.buffer:
                parameter = _parameter(model, member.tensor)
                if site.kind == "element":
                    apply_(parameter, _alive(site, keep, parameter).to(parameter.device))
                else:
                    dim, dead = dead_units(member, keep, parameter)
                    parameter.index_fill_(dim, dead.to(parameter.device), 0)


@contextmanager
def skipping(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Within it, the model's dead blocks hand their input on; afterwards they stand where they stood."""
    blocks = _dead_blocks(model, plan)
    try:
        for name, block in blocks.items():
            model.set_submodule(name, PassThrough(block))
        yield
    finally:
        for name, block in blocks.items():
            model.set_submodule(name, block)


def dead_blocks(plan: Plan) -> list[str]:
    """Names of the modules that the plan leaves out, in order."""
    sites = (site for site in plan.sites.values() if site.kind == "branch")
    return [block for site in sites for block, lives in zip(site.blocks, plan.keep(site.name).tolist(), strict=True) if not lives]


def dead_units(member: Member, keep: Tensor, tensor: Tensor) -> tuple[int, Tensor]:
    """The dimension of the tensor that the site runs along, and the positions that its dead units have there, int64."""
    dim = 0 if member.dim is None else member.dim
    width = tensor.shape[dim]
    dead = (~keep).flatten().nonzero().flatten()
    positions = dead if member.index is None else member.index[dead].flatten()
    if len(keep) > width or (positions.numel() and int(positions.max()) >= width):
        raise InputError(f"The plan reaches beyond the {width} positions of {member.tensor}; use the model it was made for.")
    return dim, positions


def _alive(site: Site, keep: Tensor, tensor: Tensor) -> Tensor:
    if keep.shape != tensor.shape:
        there, here = tuple(keep.shape), tuple(tensor.shape)
        raise InputError(f"The mask of {site.name} is {there}, its weight {here}; a plan holds masks of elements.")
    return keep


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise _foreign(name, model) from None


def _dead_blocks(model: nn.Module, plan: Plan) -> dict[str, nn.Module]:
    found = {}
    for name in dead_blocks(plan):
        try:
            found[name] = model.get_submodule(name)
        except AttributeError:
            raise _foreign(name, model) from None
    return found


def _foreign(name: str, model: nn.Module) -> InputError:
    return InputError(f"The plan names {name}, which {type(model).__name__} does not have; use the model it was made for.")

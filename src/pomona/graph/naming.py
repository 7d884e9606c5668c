"""Atoms become axes: named after the parameter that writes them, with every place where they appear."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from pomona.graph.expr import UNEXPLAINED, Atom, Const, Dims, Expr, atoms, leaves, norm, places
from pomona.graph.families import Roles, family
from pomona.vocabulary import Axis, Member, Role, Weight

_PLAIN = {UNEXPLAINED, "kernel size", "gates", "stacked", "repeated"}  # nobody asks why these stay


def axes_of(
    dims: Mapping[str, Dims],
    weights: Mapping[str, Weight],
    found: Roles,
    normalisers: Mapping[Atom, tuple[str, ...]],
    teams: Sequence[Collection[Atom]] = (),
) -> tuple[dict[str, Axis], dict[str, Atom]]:
    """(name -> axis, name -> atom for those that can be pruned), in the order of first use; frozen ones follow."""
    reached = _reached(dims, weights)
    known: dict[Expr, dict[Atom, Tensor]] = {}  # many tensors share a dimension, and then its positions
    axes: dict[str, Axis] = {}
    named: dict[str, Atom] = {}
    for atom, where in reached.items():
        if not any(tensor in weights for tensor, _ in where):
            continue
        members = tuple(_member(t, d, atom, dims, weights, known) for t, d in where)
        reads = [weights[m.tensor] for m in members if m.role == "in"]
        writes = [weights[m.tensor] for m in members if m.role == "out"]
        reads += [w for w in writes if w.kind == "conv" and w.conv is not None and w.conv.groups > 1]
        kind = family(atom, found, writes, reads)
        name = _name(members, dims, kind, axes)
        least, stride = found.floors.get(atom, 1), found.strides.get(atom, 1)
        axes[name] = Axis(name, atom.n, kind, members, None, normalisers.get(atom, ()), least=least, stride=stride)
        named[name] = atom
    return _evened(axes, named, teams) | _frozen(dims, weights, axes), named


def _evened(axes: Mapping[str, Axis], named: Mapping[str, Atom], teams: Sequence[Collection[Atom]]) -> dict[str, Axis]:
    """The axes, those of a team marked with the name of its first."""
    even: dict[str, str] = {}
    for team in teams:
        together = [name for name, atom in named.items() if atom in team]
        even |= dict.fromkeys(together, together[0]) if len(together) > 1 else {}
    return {name: replace(axis, even=even.get(name)) for name, axis in axes.items()}


def _reached(dims: Mapping[str, Dims], weights: Mapping[str, Weight]) -> dict[Atom, list[tuple[str, int]]]:
    order = [*weights, *(name for name in dims if name not in weights)]
    found: dict[Atom, list[tuple[str, int]]] = {}
    for tensor in order:
        for d, e in enumerate(dims.get(tensor, ())):
            for atom in atoms(e):
                found.setdefault(atom, []).append((tensor, d))
    return found


def _member(
    tensor: str,
    d: int,
    atom: Atom,
    dims: Mapping[str, Dims],
    weights: Mapping[str, Weight],
    known: dict[Expr, dict[Atom, Tensor]],
) -> Member:
    e = norm(dims[tensor][d])
    if e is not atom and e not in known:
        known[e] = places(e)
    index = None if e is atom else known[e][atom]
    shape = tuple(x.n for x in dims[tensor])
    return Member(tensor, _role(weights.get(tensor), d), d, index, tensor not in weights, shape)


def _role(weight: Weight | None, d: int) -> Role:
    if weight is None:
        return "scale"
    return "out" if d == weight.out_dim else "in" if d == weight.in_dim else "scale"


def _name(members: tuple[Member, ...], dims: Mapping[str, Dims], kind: str, taken: Mapping[str, Axis]) -> str:
    first = next((m for m in members if m.role == "out"), members[0])
    name = f"{first.tensor}:{first.dim}" + ("" if first.index is None else f"/{kind}")
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}{'.' if '/' in name else '/'}{number}"
    return unique


def _frozen(dims: Mapping[str, Dims], weights: Mapping[str, Weight], taken: Mapping[str, Axis]) -> dict[str, Axis]:
    """Dimensions of parameters that are bound to a constant with a reason; one axis for what froze together."""
    causes: dict[int, tuple[Const, list[tuple[str, int]]]] = {}
    for tensor in weights:
        for d, e in enumerate(dims.get(tensor, ())):
            for constant in _constants(e):
                causes.setdefault(id(constant), (constant, []))[1].append((tensor, d))
    found: dict[str, Axis] = {}
    for constant, where in causes.values():
        tensor, d = where[0]
        name = (
            f"{tensor}:{d}"
            if f"{tensor}:{d}" not in taken and f"{tensor}:{d}" not in found
            else f"{tensor}:{d}/frozen{len(found)}"
        )
        members = tuple(Member(t, _role(weights.get(t), k), k, None, False, weights[t].shape) for t, k in where)
        found[name] = Axis(name, constant.n, "other", members, constant.why)
    return found


def _constants(e: Expr) -> list[Const]:
    return [leaf for leaf in leaves(e) if isinstance(leaf, Const) and leaf.n > 1 and leaf.why not in _PLAIN]

"""A traced model: weights, axes, branches and costs, and what surgery needs to know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args

from torch import fx, nn
from torch.export import ExportedProgram

from pomona.graph.branches import branches_of
from pomona.graph.cache import cached
from pomona.graph.costs import Costs, Polynomials
from pomona.graph.even import teams
from pomona.graph.export import export
from pomona.graph.expr import Atom, Const, Dims, Expr, freeze, leaves, norm
from pomona.graph.facts import Fact
from pomona.graph.families import roles
from pomona.graph.infer import Release, infer, tied
from pomona.graph.lives import lives
from pomona.graph.naming import axes_of
from pomona.graph.nodes import frames, tensor_names
from pomona.graph.normalisers import normalisers
from pomona.graph.op import Record
from pomona.graph.shares import Shares, shares
from pomona.graph.terms import Term
from pomona.graph.turning import turned
from pomona.graph.vanish import count_sums
from pomona.graph.weights import weights_of
from pomona.vocabulary import Axis, Branch, InputError, Weight


@dataclass(frozen=True, eq=False)
class Graph:
    """What `trace` returns.

    `weights`, `axes` and `branches` are for structures. `dims` gives the dimensions of every parameter and buffer as
    expressions over atoms, `ties` the canonical name of every second name, `atoms` the atom of each prunable axis.
    `program`, `values`, `facts` and `normed` are the exported program and what is known of its nodes: `values` has a tuple
    of expressions for a tensor, a list of those for an op with several outputs, None otherwise. `unknown` lists ops without
    a rule that fits, and where: their axes are frozen. `released` is what may change although users of the model see it.
    `missing` says why there is no program, where the model could not be traced: then only single weights can be pruned.
    """

    weights: Mapping[str, Weight]
    axes: Mapping[str, Axis]
    branches: tuple[Branch, ...]
    dims: Mapping[str, Dims]
    ties: Mapping[str, str]
    atoms: Mapping[str, Atom]
    exported: ExportedProgram | None = field(repr=False)
    values: Mapping[fx.Node, Any] = field(repr=False)
    facts: Mapping[fx.Node, Fact] = field(repr=False)
    normed: Mapping[fx.Node, tuple[Expr, ...]] = field(repr=False)
    unknown: tuple[tuple[str, str], ...]
    polynomials: Polynomials = field(repr=False)
    released: Release | None = None
    missing: str | None = None

    @property
    def program(self) -> ExportedProgram:
        """The exported program; raises InputError where the model could not be traced."""
        if self.exported is None:
            raise InputError(f"{self.missing}; this needs a graph.")
        return self.exported

    def why(self, axis: Axis | str) -> str:
        """Whether an axis can be pruned, and if not, what froze it. `axis` is an axis, its name, or "tensor:dim"."""
        name = axis if isinstance(axis, str) else axis.name
        found = [self.axes[name]] if name in self.axes else self._at(name)
        if not found:
            return self._constant(name)
        return "; ".join(
            f"{a.name} is frozen: {a.frozen}" if a.frozen else f"{a.name} can be pruned: {a.size} units of family {a.family}"
            for a in found
        )

    def costs(
        self,
        sizes: Mapping[str, int] | None = None,
        densities: Mapping[str, float] | None = None,
        without: Collection[str] = (),
    ) -> Costs:
        """The costs of a candidate without touching the model, in microseconds.

        `sizes`: axis name -> units that stay; `densities`: weight name -> share of its elements that lives; `without`:
        blocks that are left out. What is not named stays whole. Raises InputError for an axis, a weight or a block that
        is not there, and for a frozen axis.
        """
        return self.polynomials.at(self._sizes(sizes or {}), self._densities(densities or {}), self._blocks(without))

    def shares(self, axes: Collection[str] | None = None) -> Shares:
        """How much of the model lies on axes that can be pruned, or on these alone (by name)."""
        return shares(self, axes)

    def macs_by_weight(self, sizes: Mapping[str, int] | None = None, without: Collection[str] = ()) -> dict[str | None, int]:
        """Multiply-accumulates by the weight that causes them; under None those of products between activations."""
        return self.polynomials.macs_by_weight(self._sizes(sizes or {}), self._blocks(without))

    def _sizes(self, sizes: Mapping[str, int]) -> dict[Atom, int]:
        try:
            return {self.atoms[name]: count for name, count in sizes.items()}
        except KeyError as missing:
            name = str(missing.args[0])
            if name in self.axes:
                raise InputError(f"The axis '{name}' is frozen ({self.axes[name].frozen}); its size cannot change.") from None
            raise InputError(f"There is no axis '{name}'{_nearest(name, self.axes)}.") from None

    def _densities(self, densities: Mapping[str, float]) -> Mapping[str, float]:
        for name in densities:
            if name not in self.weights:
                raise InputError(f"There is no weight '{name}'{_nearest(name, self.weights)}.")
        return densities

    def _blocks(self, names: Collection[str]) -> frozenset[str]:
        known = {block for branch in self.branches for block in branch.blocks} if names else set()
        for name in names:
            if name not in known:
                raise InputError(f"There is no block '{name}'{_nearest(name, known)}.")
        return frozenset(names)

    def _at(self, place: str) -> list[Axis]:
        tensor, _, dim = place.rpartition(":")
        here = (self.ties.get(tensor, tensor), dim)
        return [a for a in self.axes.values() if any((m.tensor, str(m.dim)) == here for m in a.members)]

    def _constant(self, place: str) -> str:
        """Why a dimension without any axis is as it is."""
        tensor, _, dim = place.rpartition(":")
        dims = self.dims.get(self.ties.get(tensor, tensor), ())
        if not dim.isdecimal() or int(dim) >= len(dims):
            raise InputError(f"There is no axis '{place}'{_nearest(place, self.axes)}.")
        reasons = dict.fromkeys(leaf.why for leaf in leaves(dims[int(dim)]) if isinstance(leaf, Const))
        return f"{place} is frozen: {', '.join(reasons)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'" if close else ""


def trace(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None = None, *, release: Release | None = None) -> Graph:
    """Infer which slices of which tensors belong together, from one export of the model on example inputs.

    `args` is a tensor, a tuple or a dict of keyword inputs. With `release="output"` what the model returns may become
    narrower, which a model without a head of its own needs. Takes seconds and leaves the model as it was. Runs
    nothing, except once where lengths depend on data (rows picked by a mask). Raises Untraceable, an InputError, where the
    model cannot be exported.
    """
    if release not in (None, *get_args(Release)):
        raise InputError(f"'{release}' cannot be released; only 'output' can.")
    program = export(model, args, kwargs)
    ties = tied(model)
    found, tensors = infer(program, ties, release)
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters() if name in tensors}
    _freeze_unread(program, ties, tensors)
    even = teams(found)
    count_sums(found)
    polynomials = Polynomials.of(*_terms(found, parameters, tensors), lives(found), cached(found))
    classes = {name: type(module).__name__ for name, module in model.named_modules()}
    weights = weights_of(parameters, found.uses, polynomials.macs_by_weight({}), classes)
    axes, named = axes_of(tensors, weights, roles(found, tensors, weights), normalisers(found), even)
    return Graph(
        weights=weights,
        axes=turned(axes, named, found, tensors),
        branches=branches_of(model, program.graph, found, weights),
        dims={name: tuple(norm(e) for e in es) for name, es in tensors.items()},
        ties=ties,
        atoms=named,
        exported=program,
        values=found.values,
        facts=found.facts,
        normed=found.normed,
        unknown=tuple(found.unknown),
        polynomials=polynomials,
        released=release,
    )


def _freeze_unread(program: ExportedProgram, ties: Mapping[str, str], tensors: Mapping[str, Dims]) -> None:
    """What no op reads has no partner to be cut with."""
    names = tensor_names(program)
    read = {
        ties.get(names[n.name], names[n.name]) for n in program.graph.find_nodes(op="placeholder") if n.name in names and n.users
    }
    for name, dims in tensors.items():
        if name not in read:
            for e in dims:
                freeze(e, "never read")


def _terms(found: Record, parameters: Iterable[str], tensors: Mapping[str, Dims]) -> tuple[list[Term], list[Term]]:
    """What counts as parameters, and what as multiply-accumulates."""
    params = [Term(1, tensors[name], name, tuple(_around(name))) for name in parameters]
    return params, [Term(1, work.factors, work.tensor, tuple(frames(n))) for n, work in found.work]


def _around(name: str) -> Iterator[str]:
    """The modules around a parameter."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name

"""Axes of the graph: channels, neurons, heads, kv-groups, width. What is pruned is gone from every tensor it reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast, get_args

import torch
from torch import Tensor

from pomona.structures.chosen import Emptied, chosen, goes_by, known, names_of, wanted
from pomona.structures.top import best
from pomona.vocabulary import FAMILIES, Axis, Family, Graph, InputError, Member, Scores, Site, plural

_EVERY = cast("tuple[Family, ...]", get_args(Family))


@dataclass(frozen=True)
class Axes:
    """Units are the indices of an atom of the graph; a unit takes with it its slice of every coupled tensor.

    `families` says which atoms; `only` and `keep` are names, glob patterns or families; with `exact`, axes over which a
    normaliser runs stay whole, so that the small model is the masked one with plain zeros. With `shared`, heads that share keys
    and values leave by whole kv-groups and not one of each group; heads that have their own are chosen one by one.
    """

    families: tuple[Family, ...] = ("channel",)
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    exact: bool = False
    shared: bool = False

    spellings: ClassVar[tuple[str, ...]] = (*FAMILIES, "axes")

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in _EVERY:
                raise InputError(f"'{family}' is not a family of axes; use {', '.join(_EVERY)}.")

    @classmethod
    def read(cls, text: str) -> Axes | None:
        """`channels`, `heads`, ..., several joined by `+`, or `axes` for all families."""
        if text == "axes":
            return cls(_EVERY)
        words = [FAMILIES.get(word.strip(), word.strip()) for word in text.split("+")]
        if not all(word in _EVERY for word in words):
            return None
        return cls(cast("tuple[Family, ...]", tuple(words)))

    def __str__(self) -> str:
        return "axes" if set(self.families) == set(_EVERY) else "+".join(map(plural, self.families))

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        axis = site.axis
        if site.kind != "axis" or axis is None or axis.family not in self.families:
            return False
        return wanted(site, self.only, self.keep) and (axis.exact or not self.exact)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site an axis that is free. Raises InputError where there is none, with the reasons."""
        known(graph, *self.only, *self.keep)
        whole = _within_groups(graph) if self.shared else frozenset()
        asked = [_site(a, graph) for a in graph.axes.values() if a.family in self.families and a.name not in whole]
        if not asked:
            raise InputError(f"The model has no {self} to prune; {_instead(graph)}.")
        free = [site for site in asked if site.axis and site.axis.frozen is None and site.units > 1]
        if not free:
            reasons = dict.fromkeys(site.axis.frozen or "only one unit" for site in asked if site.axis)
            raise InputError(f"None of the {len(asked)} {self} can be pruned: {'; '.join(list(reasons)[:5])}.")
        self._not_frozen(graph, free)
        named = chosen(free, self.only, self.keep)
        found = [site for site in named if self.owns(site)]
        if not found:
            over = list(dict.fromkeys(place for site in named if site.axis for place in site.axis.normalisers))
            more = f" and {len(over) - 3} more" if len(over) > 3 else ""
            raise Emptied(
                f"Over all of the {self} runs a normaliser ({', '.join(over[:3])}{more}), so none can be pruned exactly."
            )
        return _whole_teams(found, graph)

    def _not_frozen(self, graph: Graph, free: Sequence[Site]) -> None:
        """Raises InputError where `only` names axes that are frozen and no others."""
        if not self.only or any(goes_by(names_of(site), self.only) for site in free):
            return
        frozen = [a for a in graph.axes.values() if a.frozen and goes_by(names_of(_site(a, graph)), self.only)]
        if frozen:
            raise InputError(f"What only={self.only} names cannot be pruned: {frozen[0].name} is frozen ({frozen[0].frozen}).")

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """What each unit's slices add up to, over its positions, all other dimensions and the members in `roles`.

        "mean" is the total over the number of elements, members taken together. Raises InputError when no member has values.
        """
        members = [m for m in site.members if m.role in roles and not m.buffer and m.tensor in elements]
        if not members:
            there = ", ".join(sorted({m.role for m in site.members if not m.buffer}))
            raise InputError(f"No tensor reaches {site.name} in the role {' or '.join(roles)}; its roles are {there}.")
        gathered = torch.stack([_gather(m, elements[m.tensor], how) for m in members])
        if how == "max":
            return gathered.amax(0)
        total = gathered.sum(0)
        if how == "mean":
            total = total / sum(elements[m.tensor].numel() // elements[m.tensor].shape[_dim(m)] * _per_unit(m) for m in members)
        return total

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """Exactly `keep` units."""
        return best(scores, keep)

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """Where a unit is dead, its slice of every parameter is; a tensor reached along two dimensions gets both."""
        masks: dict[str, Tensor] = {}
        for member in site.members:
            if not member.buffer:
                mask = _along(member, keep)
                masks[member.tensor] = masks[member.tensor] & mask if member.tensor in masks else mask
        return masks

    def feasible(self, site: Site) -> int | None:
        """Every count will do."""
        return None

    def window(self, site: Site) -> int:
        """Each unit is chosen by itself."""
        return 1


def _whole_teams(found: Sequence[Site], graph: Graph) -> list[Site]:
    """Without those that must keep equal shares with an axis that stays as it is; raises InputError where none is left."""
    names = {site.name for site in found}
    stays = {a.even: a.name for a in graph.axes.values() if a.even is not None and a.name not in names}
    free = [site for site in found if site.axis is None or site.axis.even not in stays]
    if not free:
        name = found[0].name
        partner = stays[graph.axes[name].even or ""]
        raise InputError(f"{name} can only shrink together with {partner}, which was not chosen; choose both.")
    return free


def _within_groups(graph: Graph) -> frozenset[str]:
    """The axes of heads that kv-groups are made of, by the tensors that both reach."""
    grouped = {m.tensor for axis in graph.axes.values() if axis.family == "kv-group" for m in axis.members}
    heads = [axis for axis in graph.axes.values() if axis.family == "head"]
    return frozenset(axis.name for axis in heads if any(m.tensor in grouped for m in axis.members))


def _site(axis: Axis, graph: Graph) -> Site:
    return Site(axis.name, "axis", (axis.size,), tuple(_read(m, graph) for m in axis.members), axis=axis, least=axis.least)


def _read(member: Member, graph: Graph) -> Member:
    weight = graph.weights.get(member.tensor)
    return member if weight is None else replace(member, shape=weight.shape, weight=weight)


def _instead(graph: Graph) -> str:
    """What there is to prune, or why there is nothing."""
    there = sorted({plural(axis.family) for axis in graph.axes.values() if axis.frozen is None})
    if there:
        return f"it has {', '.join(there)}"
    why = dict.fromkeys(f"{axis.name} is frozen: {axis.frozen}" for axis in graph.axes.values() if axis.frozen)
    return f"nothing can be pruned ({'; '.join(why)})"


def _dim(member: Member) -> int:
    assert member.dim is not None, f"{member.tensor} is reached along no dimension"
    return member.dim


def _per_unit(member: Member) -> int:
    return 1 if member.index is None else member.index.shape[1]


def _gather(member: Member, values: Tensor, how: str) -> Tensor:
    """(units,) from one member: other dimensions first, then the unit's positions."""
    values = values if values.is_floating_point() and values.element_size() >= 4 else values.float()
    slices = values.movedim(_dim(member), 0).reshape(values.shape[_dim(member)], -1)
    positions = slices.amax(1) if how == "max" else slices.sum(1)
    if member.index is None:
        return positions
    units = positions[member.index.to(positions.device)]
    return units.amax(1) if how == "max" else units.sum(1)


def _along(member: Member, keep: Tensor) -> Tensor:
    """(units,) bool -> bool that broadcasts over the member's tensor: False at the positions of dead units."""
    size = member.shape[_dim(member)]
    mask = keep
    if member.index is not None:
        mask = torch.ones(size, dtype=torch.bool, device=keep.device)
        mask[member.index.to(keep.device)[~keep].flatten()] = False
    return mask.view([size if d == member.dim else 1 for d in range(len(member.shape))])

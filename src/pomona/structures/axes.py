"""Axes of the graph: channels, neurons, heads, kv-groups, width. What is pruned is gone from every tensor it reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast, get_args

import torch
from torch import Tensor

from pomona.structures.chosen import known, wanted
from pomona.structures.top import best
from pomona.vocabulary import Axis, Family, Graph, InputError, Member, Scores, Site

_PLURALS: dict[str, Family] = {
    "width" if family == "width" else f"{family}s": family for family in cast("tuple[Family, ...]", get_args(Family))
}


@dataclass(frozen=True)
class Axes:
    """Units are the indices of an atom of the graph; a unit takes with it its slice of every coupled tensor.

    `families` says which atoms; `only` and `skip` are glob patterns over axis names or the tensors that they reach.
    """

    families: tuple[Family, ...] = ("channel",)
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    spellings: ClassVar[tuple[str, ...]] = (*_PLURALS, "axes")

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in get_args(Family):
                raise InputError(f"'{family}' is not a family of axes; use {', '.join(get_args(Family))}.")

    @classmethod
    def read(cls, text: str) -> Axes | None:
        """`channels`, `heads`, ..., several joined by `+`, or `axes` for all families."""
        if text == "axes":
            return cls(get_args(Family))
        words = [_PLURALS.get(word.strip(), word.strip()) for word in text.split("+")]
        if not all(word in get_args(Family) for word in words):
            return None
        return cls(cast("tuple[Family, ...]", tuple(words)))

    def __str__(self) -> str:
        if set(self.families) == set(get_args(Family)):
            return "axes"
        plural = {family: word for word, family in _PLURALS.items()}
        return "+".join(plural[family] for family in self.families)

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        return site.kind == "axis" and site.axis is not None and self._wants(site.axis)

    def _wants(self, axis: Axis) -> bool:
        return axis.family in self.families and wanted(_names(axis), self.only, self.skip)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site an axis that is free. Raises InputError where there is none, with the reasons."""
        known((name for axis in graph.axes.values() for name in _names(axis)), self.only, self.skip)
        asked = [axis for axis in graph.axes.values() if self._wants(axis)]
        free = [axis for axis in asked if axis.frozen is None and axis.size > 1]
        if not asked:
            there = sorted({axis.family for axis in graph.axes.values() if axis.frozen is None})
            why = "; ".join(dict.fromkeys(f"{axis.name} is frozen: {axis.frozen}" for axis in graph.axes.values() if axis.frozen))
            instead = f"it has axes of the families {', '.join(there)}" if there else f"nothing can be pruned ({why})"
            raise InputError(f"The model has no {self} to prune; {instead}.")
        if not free:
            reasons = dict.fromkeys(axis.frozen or "only one unit" for axis in asked)
            raise InputError(f"None of the {len(asked)} {self} can be pruned: {'; '.join(list(reasons)[:5])}.")
        return [Site(a.name, "axis", (a.size,), tuple(_read(m, graph) for m in a.members), axis=a) for a in free]

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


def _names(axis: Axis) -> tuple[str, ...]:
    return (axis.name, *(m.tensor for m in axis.members if not m.buffer))


def _read(member: Member, graph: Graph) -> Member:
    weight = graph.weights.get(member.tensor)
    return member if weight is None else replace(member, shape=weight.shape, weight=weight)


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

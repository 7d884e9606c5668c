"""A statistic of every tensor that the units of an axis reach into, each taken by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Probe, Role, Seen, Site, State, Statistic, Watch


@dataclass(frozen=True)
class PerMember:
    """`statistic` of each member in `roles`, as if the axis reached into no other tensor. For axis sites.

    What is read is one flat tensor, the members' values one after the other; `apart` takes it to pieces.
    """

    statistic: Statistic
    roles: tuple[Role, ...] = ("out", "in")

    @property
    def probe(self) -> Probe:
        """That of the statistic."""
        return self.statistic.probe

    def watch(self, site: Site) -> Watch:
        """All that the members' statistics watch."""
        return Watch.joined(self.statistic.watch(part) for part in alone(site, self.roles))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Fold one batch into every member's state."""
        parts = alone(site, self.roles)
        return _joined([self.statistic.update(state and _own(state, i), part, seen) for i, part in enumerate(parts)])

    def merge(self, a: State, b: State) -> State:
        """Member by member."""
        return _joined([self.statistic.merge(_own(a, i), _own(b, i)) for i in range(_members(a))])

    def value(self, state: State, site: Site) -> Tensor:
        """One after the other; a value that broadcasts over its tensor is spread over it."""
        parts = alone(site, self.roles)
        found = [self.statistic.value(_own(state, i), part) for i, part in enumerate(parts)]
        return torch.cat([_spread(value, part).flatten() for value, part in zip(found, parts, strict=True)])

    def apart(self, value: Tensor, site: Site) -> list[Tensor]:
        """The members' values: each of shape (units,), or each of its tensor's shape."""
        parts = alone(site, self.roles)
        if value.numel() == len(parts) * site.units:
            return list(value.reshape(len(parts), site.units))
        shapes = [part.members[0].shape for part in parts]
        pieces = torch.split(value, [torch.Size(shape).numel() for shape in shapes])
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def alone(site: Site, roles: tuple[Role, ...]) -> list[Site]:
    """An axis seen through one of its tensors at a time, as if that tensor wrote the units; raises InputError where none is.

    A tensor that is reached along two dimensions counts twice, once along each.
    """
    members = [m for m in site.members if m.role in roles and not m.buffer] if site.kind == "axis" else []
    if not members:
        raise InputError(f"{site.name} is no axis with {' or '.join(roles)} weights, so there is no group to score; skip it.")
    return [replace(site, members=(replace(m, role="out"),), weight=m.weight) for m in members]


def _spread(value: Tensor, part: Site) -> Tensor:
    return value if value.shape == part.shape else value.expand(part.members[0].shape)


def _joined(states: list[State]) -> State:
    return {f"{i}/{name}": value for i, state in enumerate(states) for name, value in state.items()}


def _own(state: State, i: int) -> State:
    return {name.removeprefix(f"{i}/"): value for name, value in state.items() if name.startswith(f"{i}/")}


def _members(state: State) -> int:
    return 1 + max(int(name.partition("/")[0]) for name in state)

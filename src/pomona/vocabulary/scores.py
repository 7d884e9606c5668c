"""What parts hand to each other: scores, keep counts, decisions, and the view that they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from pomona.vocabulary.sites import Member, Role, Site

if TYPE_CHECKING:
    from pomona.vocabulary.parts import Statistic, Structure

State: TypeAlias = Mapping[str, Tensor]  # whatever a part must carry from step to step; the engine saves it
Keeps: TypeAlias = Mapping[str, Tensor]  # site -> int64 counts: shape () for the site, (rows,) when rows compete apart


@dataclass(frozen=True, eq=False)
class Scores:
    """What units are worth: float32 of the site's shape, higher stays.

    Where worth depends on who has already left, `order` (int64, 0 leaves first) says so; None means ascending value. `notes` are
    what the user should know of how it was judged.
    """

    value: Tensor
    order: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Decision:
    """Who stays at a site (bool, True = alive) and, if a solver spoke, what its members become.

    `notes` are what the user should know of how it was solved. `error` is the share of the outputs' energy that is lost, on
    the data that the solver saw, where it knows.
    """

    keep: Tensor
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: float | None = None


class Undeclared(KeyError):
    """A part asked for a statistic that it does not declare in `needs`."""


class Gathered(dict["Statistic", Tensor]):
    """Statistics of one site; asking for one that was not declared is an error, not a surprise."""

    def __missing__(self, need: Statistic) -> Tensor:
        raise Undeclared(f"{need!r} is not among the declared needs {list(self)}")


@dataclass(frozen=True, eq=False)
class View:
    """All that a part may see of one site: its members' values, who is alive, the declared statistics, randomness.

    Among `tensors` are the biases that are added to what the site's weights make as well, by name, though they are no members.
    """

    site: Site
    structure: Structure
    tensors: Mapping[str, Tensor]
    alive: Tensor
    stats: Mapping[Statistic, Tensor] = field(default_factory=Gathered)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def members(self, *roles: Role) -> tuple[Member, ...]:
        """The site's members in these roles that are parameters, in order."""
        return tuple(m for m in self.site.members if m.role in roles and not m.buffer)

    @property
    def gammas(self) -> tuple[Member, ...]:
        """What normalisations multiply the units by, one parameter each; not their biases and running statistics."""
        return tuple(m for m in self.members("scale") if self.tensors[m.tensor].ndim == 1 and _is_gamma(m))

    def reduce(self, elements: Mapping[str, Tensor], how: str = "sum", roles: tuple[Role, ...] = ("self", "out")) -> Tensor:
        """Element values of the members in `roles` gathered into one value a unit, by the site's structure."""
        return self.structure.reduce(self.site, elements, how=how, roles=roles)


def _is_gamma(member: Member) -> bool:
    return member.tensor.endswith("weight") if member.weight is None else member.weight.kind == "norm"

"""Criteria that are a formula on weights: fill in one hole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from torch import Tensor

from pomona.vocabulary import InputError, Member, Role, Scores, Statistic, View, Working, finite


class Saliency(ABC):
    """A criterion that scores each element of a weight; the structure adds the elements of a unit up.

    `roles` says which members are read: the element itself and, for an axis, the weights that write the unit.
    """

    needs: tuple[Statistic, ...] = ()
    roles: tuple[Role, ...] = ("self", "out")
    working: Working = Working(12, 0.0)  # for products of a few factors

    @abstractmethod
    def element(self, weight: Tensor, view: View) -> Tensor:
        """Scores of one weight's elements, of its shape; `weight` is float32."""

    def score(self, view: View) -> Scores:
        """Sums of the elements' scores over units."""
        return Scores(gather(view, {m: self.element(weights(view, m), view) for m in members(view, self.roles)}))


def members(view: View, roles: tuple[Role, ...]) -> tuple[Member, ...]:
    """The site's parameters in these roles; raises InputError where there are none."""
    found = view.members(*roles)
    if not found:
        raise InputError(f"{view.site.name} has no {' or '.join(roles)} weights to score it by; skip it or change the criterion.")
    return found


def weights(view: View, member: Member) -> Tensor:
    """A member's value in float32; raises InputError where it is not finite, since nothing can be ranked by it."""
    value = view.tensors[member.tensor].detach().float()
    if not finite(value):
        raise InputError(f"The weight {member.tensor} holds NaN or infinite numbers; mend the model before pruning it.")
    return value


def gather(view: View, elements: dict[Member, Tensor], how: str = "sum") -> Tensor:
    """Element values of some members as one float32 value a unit, by the site's structure."""
    site = replace(view.site, members=tuple(elements))
    roles = tuple(dict.fromkeys(m.role for m in elements))
    values = {m.tensor: value for m, value in elements.items()}
    return view.structure.reduce(site, values, how=how, roles=roles).float()


def of_units(view: View, value: Tensor) -> Tensor:
    """A statistic as one float32 value a unit: where it still has the weight's shape, the structure adds it up."""
    if value.shape == view.site.shape:
        return value.float()
    return gather(view, {view.site.members[0]: value.float()})

"""Grouped: any criterion on weights, lifted to everything that a unit reaches into (DepGraph, Fang et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from pomona.criteria.magnitude import Magnitude
from pomona.statistics.per_member import PerMember, alone
from pomona.vocabulary import Criterion, Gathered, InputError, Relative, Role, Scores, Statistic, View, relative

Combine = Literal["sum", "mean", "max", "norm", "product", "first"]

_COMBINED: Mapping[Combine, Callable[[Tensor], Tensor]] = {  # (members, units) -> (units,)
    "sum": lambda v: v.sum(0),
    "mean": lambda v: v.mean(0),
    "max": lambda v: v.amax(0),
    "norm": lambda v: v.norm(dim=0),
    "product": lambda v: v.prod(0),
    "first": lambda v: v[0],
}


@dataclass(frozen=True)
class Grouped:
    """`criterion` for each tensor of a coupled group by itself, then one value a unit by `combine`.

    Every member in `roles` is shown to the criterion as if it wrote the units, so rows of producers, columns of readers
    and (with "scale") norms and biases are scored alike. "first" looks at the first member in the order of use only, the
    weight that makes the units; the others take the sum, mean, maximum, Euclidean norm or product over members.
    `normalise` makes each member relative to its own living units before they meet, so that a wide tensor does not drown
    a narrow one. Groups are compared with each other by the allocation: `Global(relative="mean")`, and so on.
    The criterion may need data, if what it needs is known for a single weight (Wanda, Taylor, Fisher).
    """

    criterion: Criterion = field(default_factory=Magnitude)
    combine: Combine = "mean"
    normalise: Relative = "none"
    roles: tuple[Role, ...] = ("out", "in")

    def __post_init__(self) -> None:
        if self.combine not in get_args(Combine):
            raise InputError(f"'{self.combine}' combines nothing; use one of {', '.join(get_args(Combine))}.")
        if self.normalise not in get_args(Relative):
            raise InputError(f"'{self.normalise}' normalises nothing; use one of {', '.join(get_args(Relative))}.")
        if self.normalise == "standardise" and self.combine in ("norm", "product"):
            raise InputError(f"Standardised scores have signs, which the {self.combine} would lose; combine by sum, mean or max.")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The criterion's statistics, member by member."""
        return tuple(PerMember(need, self.roles) for need in self.criterion.needs)

    def score(self, view: View) -> Scores:
        """One value a unit; raises InputError for sites that are no axes and for what the criterion refuses."""
        parts = alone(view.site, self.roles)
        pieces = {need: PerMember(need, self.roles) for need in self.criterion.needs}
        stats = {need: by.apart(view.stats[by], view.site) for need, by in pieces.items()}
        values = []
        for i, part in enumerate(parts):
            seen = Gathered({need: found[i] for need, found in stats.items()})
            value = self.criterion.score(replace(view, site=part, stats=seen)).value
            values.append(relative(value, self.normalise, value[view.alive]))
        return Scores(_COMBINED[self.combine](torch.stack(values)))

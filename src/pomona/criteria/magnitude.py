"""Magnitude: small weights matter least (Han et al., 2015; for filters Li et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from pomona.criteria.base import gather, members, weights
from pomona.vocabulary import InputError, Role, Scores, Statistic, View, Working

Norm = Literal["l1", "l2", "linf"]


@dataclass(frozen=True)
class Magnitude:
    """The norm of a unit's weights; of a single weight all three are |w|.

    `roles`: by default the weights that write the unit, as in the filter papers; add "in" to count its readers too.
    """

    norm: Norm = "l1"
    roles: tuple[Role, ...] = ("self", "out")
    needs: ClassVar[tuple[Statistic, ...]] = ()
    working: ClassVar[Working] = Working(12, 0.0)

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise InputError(f"'{self.norm}' is not a norm; use one of {', '.join(get_args(Norm))}.")

    def score(self, view: View) -> Scores:
        """Norms over units."""
        values = {m: weights(view, m) for m in members(view, self.roles)}
        if self.norm == "l2":
            return Scores(gather(view, {m: w.square() for m, w in values.items()}).sqrt())
        return Scores(gather(view, {m: w.abs() for m, w in values.items()}, "sum" if self.norm == "l1" else "max"))

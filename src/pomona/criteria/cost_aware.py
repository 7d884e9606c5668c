"""CostAware: what a unit is worth, less what it costs to run (Molchanov et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.criteria.activation_taylor import ActivationTaylor
from pomona.vocabulary import Criterion, InputError, Member, Scores, Statistic, View


@dataclass(frozen=True)
class CostAware:
    """`criterion` - strength * (millions of multiply-accumulates that go with the unit), for any criterion.

    The paper subtracts operations from scores that are normalised by layer, with strength 1e-3 found by trial. Counted are
    the weights that write and read the unit, at the model's example inputs and full size; as other sites shrink it costs
    less. Scores may become negative, which allocations by shares of the whole (LAMP) refuse.
    """

    criterion: Criterion = field(default_factory=ActivationTaylor)
    strength: float = 1e-3

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The criterion's."""
        return self.criterion.needs

    def score(self, view: View) -> Scores:
        """Raises InputError where the site does not say what its weights cost, and where the criterion does."""
        scores = self.criterion.score(view)
        return Scores(scores.value - self.strength * _millions(view).to(scores.value.device), scores.order)


def _millions(view: View) -> Tensor:
    """MACs that leave with each unit, in millions; a number, for all units of a site are alike."""
    if view.site.weight is not None:
        return torch.tensor(view.site.weight.macs / view.site.units / 1e6)
    known = [m for m in view.members("out", "in") if m.weight is not None]
    if not known:
        raise InputError(f"{view.site.name} does not say what its units cost; use a criterion without costs there.")
    return torch.tensor(sum(_macs(m) for m in known) / 1e6)


def _macs(member: Member) -> float:
    assert member.weight is not None and member.dim is not None  # an axis indexes every member along a dimension
    positions = 1 if member.index is None else member.index.shape[1]
    return member.weight.macs * positions / member.weight.shape[member.dim]

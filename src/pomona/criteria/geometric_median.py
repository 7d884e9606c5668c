"""Geometric median: the filters that the others could replace go first (He et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pomona.criteria.base import members, weights
from pomona.vocabulary import InputError, Role, Scores, Statistic, View


@dataclass(frozen=True)
class GeometricMedian:
    """The sum of a unit's distances to all living units; the smallest lies nearest the median and is the most replaceable.

    A unit's vector joins the weights that write it, over all members of a coupled group.
    """

    roles: tuple[Role, ...] = ("out",)
    needs: ClassVar[tuple[Statistic, ...]] = ()

    def score(self, view: View) -> Scores:
        """Sums of Euclidean distances; raises InputError for anything but an axis."""
        if view.site.kind != "axis":
            raise InputError(f"The geometric median compares whole filters and {view.site.name} has none; use structure Axes.")
        rows = torch.cat([m.rows(weights(view, m)) for m in members(view, self.roles)], dim=1)  # (units, weights)
        # Differences, not the inner-product shortcut: that one loses near-identical filters, which are what is looked for.
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return Scores(distances[:, view.alive.to(rows.device)].sum(1))

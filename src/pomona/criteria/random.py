"""Random: the baseline that every criterion must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Random:
    """Uniform scores in [0, 1) from the generator of the view, so that the seed of the run decides."""

    needs: ClassVar[tuple[Statistic, ...]] = ()

    def score(self, view: View) -> Scores:
        """One draw a unit."""
        return Scores(torch.rand(view.site.shape, generator=view.generator).to(view.alive.device))

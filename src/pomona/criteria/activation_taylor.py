"""Taylor on activations: |dL/dz * z| of a feature map (Molchanov et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pomona.statistics.gate_gradient import GateGradient
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class ActivationTaylor:
    """Mean over examples of |mean over positions of dL/dz * z|, z being what the unit's readers receive.

    `normalise` divides the scores of a site by their L2 norm, as the paper does before it compares layers. A site whose
    scores are all zero stays at zero.
    """

    normalise: bool = True
    needs: ClassVar[tuple[Statistic, ...]] = (GateGradient(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        value = view.stats[GateGradient()]
        if self.normalise:
            value = value / value.norm().clamp_min(torch.finfo(value.dtype).tiny)
        return Scores(value.float())

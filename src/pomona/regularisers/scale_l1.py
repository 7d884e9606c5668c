"""The pull of network slimming: L1 on what normalisations multiply channels by (Liu et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.vocabulary import Clock, State, View


@dataclass(frozen=True)
class ScaleL1:
    """strength * sum |gamma| over the norms that scale a site's units, until the goal is met; then it rests.

    So a cut before the end of the training is followed by fine-tuning without it, as published. The paper's strengths are
    1e-4 (VGG) and 1e-5 (ResNet, DenseNet) with SGD, whose step it shortens by lr * strength; Adam rescales it. Weight
    decay on gammas pulls as well.
    """

    strength: float = 1e-4

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Subgradient 0 at 0; 0 where no norm has a scale."""
        if clock.signals.get("density", 1.0) <= clock.signals.get("goal", 0.0):
            return torch.zeros(())
        sums = [view.tensors[m.tensor].abs().sum() for m in view.gammas]
        return self.strength * torch.stack(sums).sum() if sums else torch.zeros(())

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """Nothing to carry."""
        return {}

"""The pull that makes learned thresholds rise: alpha * sum exp(-t) (Liu et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.vocabulary import Clock, InputError, State, View

THRESHOLD = "gate/threshold"


@dataclass(frozen=True)
class ThresholdPull:
    """alpha * sum_i exp(-t_i) over a site's thresholds; alpha is the method's only sparsity knob.

    Extension of the paper: where the run has a goal (the clock's signals hold `density` and `goal`), alpha is steered by
    dual ascent in log space, alpha <- alpha * (density / goal)^rate every step; rate=0 is the paper.
    """

    alpha: float = 1e-4
    rate: float = 0.05

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Differentiable in the thresholds; raises InputError where the gate has none."""
        if THRESHOLD not in view.tensors:
            raise InputError(f"ThresholdPull needs learned thresholds at {view.site.name}; use gate=LearnedThreshold().")
        threshold = view.tensors[THRESHOLD]
        alpha = self.alpha if state is None else state["alpha"].to(threshold)
        return alpha * torch.exp(-threshold).sum()

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """State `alpha`, float64."""
        alpha = torch.tensor(self.alpha, dtype=torch.float64) if state is None else state["alpha"]
        if "goal" in clock.signals:
            alpha = alpha * (max(clock.signals["density"], 1e-6) / clock.signals["goal"]) ** self.rate
        return {"alpha": alpha}

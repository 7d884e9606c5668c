"""Growing regularisation: the condemned feel a penalty that rises until they are gone (Wang et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.vocabulary import Clock, Role, State, View


@dataclass(frozen=True)
class GrowingL2:
    """GReg-1: sum over condemned units of (lam / 2) * ||w||^2, lam growing by `delta` every `every` steps up to `ceiling`.

    The published delta (1e-4) takes 100,000 steps to the ceiling; `delta=None` gets there in three quarters of whatever
    length the run has, and leaves the last quarter to stabilise, as the paper's longest runs do.
    Units that stay keep lam = 0. A site whose kept units are on (running) average `ratio` times as large as its condemned
    ones is finished, and its lam rests. The penalty reaches weights by their `roles`; add "scale" to fade the norms that
    could rescale what is left. It enters by the loss, as the paper's does by the gradient: with SGD a step multiplies a
    condemned weight by (1 - lr * lam), Adam rescales that.
    """

    delta: float | None = 1e-4
    every: int = 10
    ceiling: float = 1.0
    ratio: float = 1000.0
    roles: tuple[Role, ...] = ("self", "out")

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Differentiable in the view's tensors; 0 before the first growth."""
        squares = view.reduce({name: t.square() for name, t in view.tensors.items()}, roles=self.roles)
        lam = torch.zeros_like(squares) if state is None else state["lam"].to(squares)
        return 0.5 * (lam * squares).sum()

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """State `lam` (the site's shape) and `ratio` (running mean of |kept| over |condemned|)."""
        lam = torch.zeros(view.site.shape, device=view.alive.device) if state is None else state["lam"]
        if clock.step == 0 or clock.step % self.every:
            return {"lam": lam, "ratio": torch.zeros(()) if state is None else state["ratio"]}
        sizes = view.reduce({name: t.detach().abs() for name, t in view.tensors.items()}, how="mean", roles=self.roles)
        gone, now = ~view.alive, torch.zeros(())
        if gone.any() and view.alive.any():
            now = (sizes[view.alive].mean() / sizes[gone].mean().clamp_min(1e-30)).cpu()
        ratio = now if state is None or not state["ratio"] else 0.9 * state["ratio"] + 0.1 * now
        if ratio <= self.ratio:
            lam = torch.where(gone, (lam + self._growth(clock)).clamp_max(self.ceiling), torch.zeros_like(lam))
        return {"lam": lam, "ratio": ratio}

    def _growth(self, clock: Clock) -> float:
        return self.ceiling / max(1, 3 * clock.steps // (4 * self.every)) if self.delta is None else self.delta

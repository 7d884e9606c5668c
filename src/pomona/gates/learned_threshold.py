"""Trainable thresholds: a weight is there while it is larger than its neuron's threshold (Liu et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pomona.vocabulary import Clock, InputError, Site

THRESHOLD = "threshold"


def long_tailed(q: Tensor) -> Tensor:
    """The estimator of the step's derivative: 2 - 4|q| up to .4, then .4 up to 1, then 0 (integral 1.44)."""
    size = q.abs()
    return torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0)).to(q.dtype)


class _Thresholded(torch.autograd.Function):
    """P = W where |W| - t > 0, else 0; backward through the step by the long-tailed estimator."""

    @staticmethod
    def forward(weight: Tensor, threshold: Tensor) -> Tensor:
        return weight.masked_fill(weight.abs() - threshold <= 0, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        weight, threshold = ctx.saved_tensors
        q = weight.abs() - threshold
        through = upstream[0] * weight * long_tailed(q)
        return upstream[0].masked_fill(q <= 0, 0) + through * weight.sign(), -through.sum_to_size(threshold.shape)


@dataclass(frozen=True)
class LearnedThreshold:
    """Forward W where |W| > t; t learns by the long-tailed estimator, and so do weights below it, which can come back.

    `per`: one threshold an output neuron or filter (the paper's choice), a "site" or a "weight"; `start` its first value.
    Where a site would keep no more than `guard` of its weights, its thresholds are back at 0 at once. Pair it with
    `GateMargin`, whose score is |W| - t, and `ThresholdPull`, which makes t grow. For sites made of weight elements.
    """

    per: Literal["neuron", "site", "weight"] = "neuron"
    start: float = 0.0
    guard: float = 0.01

    def __post_init__(self) -> None:
        if self.per not in ("neuron", "site", "weight"):
            raise InputError(f"'{self.per}' is not a grain of thresholds; use neuron, site or weight.")

    @property
    def holds(self) -> bool:
        """The dead move."""
        return False

    def learned(self, site: Site, weight: Tensor) -> Mapping[str, Tensor]:
        """Thresholds that broadcast over the weight; raises InputError for sites that are not made of weight elements."""
        if site.kind != "element" or site.shape != tuple(weight.shape):
            raise InputError(f"Learned thresholds act on single weights; {site.name} is made of larger units. Use Weights().")
        row = (site.weight.out_dim if site.weight else None) or 0
        shape = {
            "neuron": [size if dim == row else 1 for dim, size in enumerate(weight.shape)],
            "site": [1] * weight.dim(),
            "weight": list(weight.shape),
        }[self.per]
        return {THRESHOLD: torch.full(shape, self.start, dtype=weight.dtype, device=weight.device)}

    def apply(self, weight: Tensor, alive: Tensor, learned: Mapping[str, Tensor], clock: Clock) -> Tensor:
        """The weights above their thresholds; `alive` only reports what the thresholds decided."""
        threshold = learned[THRESHOLD]
        safe = torch.where(self._collapsed(weight, threshold), torch.zeros_like(threshold), threshold)
        thresholded: Tensor = _Thresholded.apply(weight, safe)  # type: ignore[no-untyped-call]
        return thresholded

    def mend(self, weight: Tensor, learned: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The learned tensors after the guard: unchanged, or all thresholds 0 where the site would collapse."""
        threshold = learned[THRESHOLD]
        return {THRESHOLD: torch.where(self._collapsed(weight, threshold), torch.zeros_like(threshold), threshold)}

    def _collapsed(self, weight: Tensor, threshold: Tensor) -> Tensor:
        return (weight.detach().abs() - threshold.detach() > 0).float().mean() <= self.guard

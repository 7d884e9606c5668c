"""DSnoT: survivors and leavers change places until rows miss less of their mean output (Zhang et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.statistics.input_moments import InputMoments
from pomona.statistics.input_norm import InputNorm
from pomona.vocabulary import Decision, InputError, Statistic, View, Working
from pomona.vocabulary.layout import from_product, product_shape, to_product


@dataclass(frozen=True)
class Dsnot:
    """No weight changes. What a row misses on average is the sum of w_j mean(x_j) over its leavers.

    Of those that would make up for it the one comes back that is largest over its input's variance to the `power`; of the
    survivors whose loss makes up for it as well the one with the least |w| ||x|| leaves, in n:m groups of the same group. A row
    stops after `cycles`, when it misses less than `threshold`, or when the next exchange would turn the sign of what it misses.
    """

    cycles: int = 50
    threshold: float = 0.1
    power: float = 1.0

    needs: ClassVar[tuple[Statistic, ...]] = (InputMoments(), InputNorm())
    working: ClassVar[Working] = Working(48, 0.0)

    def __post_init__(self) -> None:
        if self.cycles < 0 or self.threshold < 0:
            raise InputError(f"Dsnot needs cycles and a threshold from 0 on; got {self.cycles} and {self.threshold:g}.")

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors in every row, and in every n:m group, as proposed; raises InputError where units are no weights."""
        given = view.site.weight
        if given is None or view.site.shape != given.shape:
            raise InputError(f"Dsnot exchanges single weights and {view.site.name} has other units; use structure Weights or NM.")
        weight = view.tensors[given.tensor].detach().double()
        mean, variance = view.stats[self.needs[0]][:, :, None]
        missing = to_product(given, weight) * mean
        worth = to_product(given, (weight.abs() * view.stats[self.needs[1]]).expand(given.shape))
        mask = to_product(given, proposal).flatten(0, 1)
        gain = (missing / (variance**self.power).clamp_min(torch.finfo(mean.dtype).tiny)).flatten(0, 1)
        window = view.structure.window(view.site)
        mask = self._exchanged(mask, missing.flatten(0, 1), gain, worth.flatten(0, 1), window)
        return Decision(from_product(given, mask.view(product_shape(given))))

    def _exchanged(self, mask: Tensor, missing: Tensor, gain: Tensor, worth: Tensor, window: int) -> Tensor:
        """All (rows, columns)."""
        mask, rows = mask.clone(), torch.arange(len(mask), device=mask.device)
        lacks = missing.masked_fill(mask, 0.0).sum(1)
        sign = lacks.sign()[:, None]
        moving = lacks != 0
        groups = torch.arange(mask.shape[1], device=mask.device) // window
        for _ in range(self.cycles):
            moving = moving & (lacks.abs() > self.threshold)
            if not moving.any():
                break
            best, back = torch.where(~mask & (missing * sign > 0), gain * sign, -torch.inf).max(1)
            may = mask & (missing * sign < 0)
            if window > 1:
                may &= groups == groups[back][:, None]
            least, leaves = torch.where(may, worth, torch.inf).min(1)
            after = lacks - missing[rows, back] + missing[rows, leaves]
            moving = moving & best.isfinite() & least.isfinite() & (after * sign[:, 0] > 0)
            at = moving.nonzero()[:, 0]
            mask[at, back[at]], mask[at, leaves[at]] = True, False
            lacks = torch.where(moving, after, lacks)
        return mask

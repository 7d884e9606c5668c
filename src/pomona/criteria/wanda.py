"""Wanda: |w| times the norm of the input it multiplies (Sun et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pomona.criteria.base import Saliency
from pomona.statistics.input_norm import InputNorm
from pomona.vocabulary import View


@dataclass(frozen=True)
class Wanda(Saliency):
    """Score |w_ij| * ||x_j||_2 over the calibration data.

    The paper compares within an output row: pair it with `Uniform(per="row")`. For convolutions x_j is the unfolded input column.
    """

    needs = (InputNorm(),)

    def element(self, weight: Tensor, view: View) -> Tensor:
        """The weight times its input's norm."""
        return (weight.abs() * view.stats[InputNorm()].float()).float()

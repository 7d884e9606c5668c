"""RIA: how much of its row and of its column a weight is, times its input's norm (Zhang et al., Plug-and-Play, 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.criteria.base import Saliency
from pomona.statistics.input_norm import InputNorm
from pomona.vocabulary import InputError, View, Working
from pomona.vocabulary.layout import from_product, to_product


@dataclass(frozen=True)
class Ria(Saliency):
    """Score (|w_ij| / sum of row i + |w_ij| / sum of column j) * ||x_j||_2 ^ power.

    No input or output channel is erased as a whole, since the last of it are all of its row or column. The paper's power is 1/2;
    0 leaves the data out of the score.
    """

    power: float = 0.5

    needs = (InputNorm(),)
    working = Working(28, 0.0)

    def __post_init__(self) -> None:
        if self.power < 0:
            raise InputError(f"Ria takes a power of the inputs' norms from 0 on, not {self.power:g}.")

    def element(self, weight: Tensor, view: View) -> Tensor:
        """The relative importance times its input's norm; rows and columns of zeros have none."""
        assert view.site.weight is not None  # InputNorm is only known of single weights
        size, tiny = to_product(view.site.weight, weight.abs()), torch.finfo(weight.dtype).tiny
        shares = size / size.sum(2, keepdim=True).clamp_min(tiny) + size / size.sum(1, keepdim=True).clamp_min(tiny)
        return (from_product(view.site.weight, shares) * view.stats[InputNorm()] ** self.power).float()

"""Assignment: channels are dealt out to stripes as a linear sum assignment (Zhang et al., RIA, 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.orders.stripes import redealt
from pomona.vocabulary import InputError


@dataclass(frozen=True)
class Assignment:
    """Take one channel out of every stripe and put them back so that most is kept, until each place has had `sweeps` turns.

    Each turn is solved to its optimum (needs scipy). The paper goes over the m slots once; here stripes bring out their
    channels in an order drawn by `seed`, and go on while more is kept, so that all channels meet.
    """

    sweeps: int = 20
    seed: int = 0

    def arrange(self, columns: Tensor, n: int, m: int) -> Tensor:
        """Whom each place gets: int64 (channels,), from scores (rows, channels). Raises InputError without scipy."""
        return redealt(columns, n, m, _best, self.sweeps, self.seed)


def _best(worth: Tensor) -> Tensor:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise InputError("The order 'assignment' needs scipy: pip install scipy, or use 'swaps'.") from None
    return torch.from_numpy(linear_sum_assignment(worth.cpu().numpy(), maximize=True)[1]).to(worth.device)

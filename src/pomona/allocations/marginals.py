"""What the counts of one site cost, the others staying as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pomona.vocabulary import Keeps, Price, Sweeping


def along(price: Price, keeps: Keeps, name: str, counts: Sequence[int]) -> Tensor:
    """The whole price at each of these counts of one site, (counts,) float64; the others keep what `keeps` says.

    A price that can tell all of them at once (`Sweeping`) does so, any other one is asked count by count.
    """
    if isinstance(price, Sweeping):
        return torch.tensor(price.along(keeps, name, counts), dtype=torch.float64)
    return torch.tensor([price({**keeps, name: torch.tensor(count)}) for count in counts], dtype=torch.float64)

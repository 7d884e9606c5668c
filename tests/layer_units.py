"""Random layer problems on whole units."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.quadratic.units import Units


def random(units: int, k: int = 1, rows: int = 4, seed: int = 0, correlated: float = 2.0) -> Units:
    """The inputs of `units` units of k columns each; the larger `correlated` is, the more they depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    columns = units * k
    mix = (
        torch.eye(columns, dtype=torch.float64)
        + correlated * torch.randn(columns, columns, generator=generator, dtype=torch.float64) / columns**0.5
    )
    x = torch.randn(4 * columns, columns, generator=generator, dtype=torch.float64) @ mix
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    places = torch.randperm(columns, generator=generator).view(units, k)
    return Units(x.T @ x / len(x) + 0.01 * torch.eye(columns, dtype=torch.float64), weight, places)


def everyone(problem: Units) -> Tensor:
    """All units."""
    return torch.ones(len(problem.places), dtype=torch.bool)

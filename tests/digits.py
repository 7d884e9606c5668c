"""Real handwritten digits (8 x 8, scikit-learn's) for tests that show which way a method goes."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train images and labels, test images and labels; images standardised, 1 x 8 x 8."""
    bunch = load_digits()
    x = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1)
    x, y = (x - x.mean()) / x.std(), torch.tensor(bunch.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1200], order[1200:]
    return x[train], y[train], x[test], y[test]


def mlp(seed: int = 0, width: int = 48) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def batch(number: int, seed: int = 0, size: int = 64) -> tuple[Tensor, Tensor]:
    """Batch `number` of an endless stream."""
    x, y, _, _ = digits()
    rows = torch.randint(len(x), (size,), generator=torch.Generator().manual_seed(1000 * seed + number))
    return x[rows], y[rows]


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    _, _, x, y = digits()
    return float((model.eval()(x).argmax(1) == y).float().mean())

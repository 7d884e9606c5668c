"""One linear layer and what it read, as a view; by a gram that is given or that of random inputs."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from handmade import linear_site
from pomona.statistics.input_gram import InputGram
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, Structure, View


def layer(weight: Tensor, gram: Tensor, structure: Structure | None = None) -> View:
    """A view of `weight` (rows, columns) with H = `gram` (columns, columns)."""
    site = linear_site("w", tuple(weight.shape))
    stats = Gathered({InputGram(): gram.double()[None]})
    return View(site, structure or Weights(), {"w": weight}, torch.ones(weight.shape, dtype=torch.bool), stats)


def random_layer(
    rows: int, columns: int, seed: int = 0, structure: Structure | None = None, dtype: torch.dtype = torch.float64
) -> View:
    """Correlated inputs of unequal size."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(4 * columns, columns, generator=g, dtype=torch.float64)
    x = x @ (torch.eye(columns) + torch.randn(columns, columns, generator=g) / columns**0.5).double()
    x = x * torch.randn(columns, generator=g, dtype=torch.float64).exp()
    return layer(torch.randn(rows, columns, generator=g, dtype=torch.float64).to(dtype), x.T @ x, structure)


def half(view: View, share: float = 0.5) -> Tensor:
    """A proposal: the larger weights of every row."""
    w = view.tensors["w"].abs()
    return w >= w.sort(dim=1).values[:, round(share * w.shape[1]), None]


def fitted(w: Tensor, gram: Tensor, mask: Tensor) -> Tensor:
    """Least squares on a mask, row by row, by the normal equations."""
    found = torch.zeros_like(w)
    for row, alive in enumerate(mask):
        found[row, alive] = torch.linalg.solve(gram[alive][:, alive], (gram @ w[row])[alive])
    return found


def lost(w: Tensor, other: Tensor, gram: Tensor) -> float:
    """tr(D H D^T)."""
    return float(((w - other) @ gram * (w - other)).sum())


def optimum(w: Tensor, gram: Tensor, keep: int) -> float:
    """The least loss of one row over all supports of `keep` columns."""
    best = float("inf")
    for support in combinations(range(len(w)), keep):
        mask = torch.zeros(1, len(w), dtype=torch.bool)
        mask[0, list(support)] = True
        best = min(best, lost(w[None], fitted(w[None], gram, mask), gram))
    return best

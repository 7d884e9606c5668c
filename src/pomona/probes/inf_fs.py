"""Infinite feature selection: features that vary and that others do not repeat, along all paths (Roffo et al., 2015)."""

from __future__ import annotations

import torch
from torch import Tensor


def infinite_selection(x: Tensor, mix: float = 0.5) -> Tensor:
    """The score of each feature: x (samples, features) -> (features,) float64, positive, higher is better.

    Features are nodes; the edge between two is `mix` * (the larger of their deviations, rescaled to [0, 1]) + (1 - mix) *
    (1 - |their rank correlation|). A feature's score is the sum over all paths from it, of any length, of the products of
    their edges, each edge shrunk to 0.9 of what would still converge. Constant features correlate with none.
    """
    x = x.double()
    spread = x.std(0, correction=0)
    spread = (spread - spread.min()) / (spread.max() - spread.min()).clamp_min(torch.finfo(x.dtype).tiny)
    edges = mix * torch.maximum(spread[:, None], spread[None]) + (1 - mix) * (1 - rank_correlation(x).abs())
    radius = torch.linalg.eigvalsh(edges).abs().max()
    step = 0.9 / radius.clamp_min(torch.finfo(x.dtype).tiny)
    one = torch.eye(len(edges), dtype=x.dtype, device=x.device)
    paths: Tensor = torch.linalg.solve(one - step * edges, torch.ones_like(edges[:, :1]))
    return paths[:, 0] - 1


def rank_correlation(x: Tensor) -> Tensor:
    """Spearman's, between the columns of (samples, features); ties share their mean rank; 0 where a column is constant."""
    columns = x.T.contiguous()
    ordered = columns.sort(dim=1).values
    ranks = torch.searchsorted(ordered, columns).double() + torch.searchsorted(ordered, columns, right=True)
    centred = ranks - ranks.mean(1, keepdim=True)
    unit = torch.nn.functional.normalize(centred, dim=1)
    return unit @ unit.T

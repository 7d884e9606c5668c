"""Columns settled from left to right, those to the right making up for each (Frantar and Alistarh, SparseGPT, 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.quadratic.problem import Quadratic

# (current weights, their scores, first column) of a range of columns -> who stays there.
Choose = Callable[[Tensor, int], Tensor]
Snap = Callable[[Tensor], Tensor]


def swept(
    problem: Quadratic, choose: Choose, block: int = 128, window: int = 1, snap: Snap | None = None
) -> tuple[Tensor, Tensor]:
    """(weights, who stays), both (groups, rows, columns).

    `choose(worth, start)` says who of the columns from `start` on stays, where worth is w^2 / [U_jj]^2, what losing a weight
    costs when all columns before are settled. It is asked once a block, or where `window` columns must be chosen together,
    once a window, with the weights as they are then. `snap` puts the values of a column, (groups, rows), on a grid.

    With H = R R^T, R upper triangular, and E the change of the settled columns P, the best that the others can do is
    W_b + E R_Pb R_bb^-1: one Cholesky and no inverse, and a block is looked at once, when its turn has come.
    """
    dtype = problem.dtype
    weight = problem.weight.to(dtype)
    change = torch.empty_like(weight)
    alive = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
    columns = weight.shape[2]
    for start in range(0, columns, block):
        here = slice(start, min(start + block, columns))
        upper = problem.factor(start, here.stop)
        corner = upper[:, start:]
        factor = torch.linalg.solve_triangular(corner, torch.eye(corner.shape[1], dtype=dtype, device=weight.device), upper=True)
        now = weight[..., here] + change[..., :start] @ upper[:, :start] @ factor
        settled, alive[..., here] = _block(now, factor, choose, start, window, snap)
        change[..., here] = weight[..., here] - settled
    return weight - change, alive


def _block(now: Tensor, factor: Tensor, choose: Choose, start: int, window: int, snap: Snap | None) -> tuple[Tensor, Tensor]:
    """One block settled: `now` (groups, rows, width) what its weights would be, `factor` U with U^T U their inverse."""
    width = now.shape[2]
    scale = factor.diagonal(dim1=1, dim2=2)[..., None]
    columns = now.mT.contiguous()  # (groups, width, rows): what is settled at once lies together
    errors = torch.empty_like(columns)
    alive = torch.empty(columns.shape, dtype=torch.bool, device=now.device)
    step = width if window == 1 else window
    for first in range(0, width, step):
        here = slice(first, min(first + step, width))
        columns[:, here] -= factor[:, :first, here].mT @ errors[:, :first]
        alive[:, here] = choose((columns[:, here] / scale[:, here]).square().mT, start + first).mT
        for j in range(here.start, here.stop):
            value = columns[:, j] - (factor[:, None, first:j, j] @ errors[:, first:j])[:, 0]
            settled = (value if snap is None else snap(value)) * alive[:, j]
            errors[:, j] = (value - settled) / scale[:, j]
            columns[:, j] = settled
    return columns.mT, alive.mT

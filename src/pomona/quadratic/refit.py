"""The best weights on a given mask: least squares, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.applied import applied, apply_
from pomona.native.conjugate import step

_AT_ONCE = 1 << 20  # numbers that the matrices of the rows solved together may hold: more do not fit in a cache


def refit(gram: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """W' on `mask` that minimises tr((W - W') H (W - W')^T), exactly: W'_S = W_S + W_T H_TS H_SS^-1, T those who left.

    `gram` (groups, columns, columns), positive definite, `target` and `mask` (groups, rows, columns). Each row has a matrix of
    its own, of the size of its support; rows of similar size are solved together.
    """
    target = target.to(gram.dtype)
    found = target.masked_fill(~mask, 0.0)
    for group in range(len(gram)):
        sizes = mask[group].sum(1)
        ready = torch.argsort(sizes, descending=True).tolist()
        while ready:
            size = int(sizes[ready[0]])
            if not size:
                break
            number = max(1, _AT_ONCE // (size * size))
            rows, ready = torch.tensor(ready[:number], device=mask.device), ready[number:]
            found[group, rows] = _solved(gram[group], target[group, rows], mask[group, rows], size)
    return found


def _solved(gram: Tensor, target: Tensor, mask: Tensor, size: int) -> Tensor:
    """Some rows, none with more than `size` survivors; the places that a row does not fill stand alone."""
    order = torch.argsort(mask, dim=1, descending=True, stable=True)[:, :size]  # the survivors of each row first
    lives = mask.gather(1, order)
    both = lives[:, :, None] & lives[:, None, :]
    matrix = gram[order[:, :, None], order[:, None, :]].masked_fill_(~both, 0.0)
    matrix.diagonal(dim1=1, dim2=2).add_((~lives).to(matrix.dtype))
    missing = target.masked_fill(mask, 0.0) @ gram
    repair = torch.cholesky_solve(missing.gather(1, order).masked_fill(~lives, 0.0)[..., None], torch.linalg.cholesky(matrix))
    return target.masked_fill(~mask, 0.0).scatter_add(1, order, repair[..., 0])


def descended(gram: Tensor, target: Tensor, mask: Tensor, start: Tensor, steps: int = 100, tolerance: float = 1e-4) -> Tensor:
    """`refit` by conjugate gradients from `start`, all rows at once, preconditioned by the diagonal: a product with H a step.

    Ends after `steps` or when the gradient has fallen to `tolerance` of what it would be at zero, in every row.
    """
    scale = (1 / gram.diagonal(dim1=1, dim2=2)[:, None]).contiguous()
    mask = mask.contiguous()
    found = applied(start, mask)
    gradient = apply_((target - found) @ gram, mask)
    whole = _dot(target @ gram, target).clamp_min(torch.finfo(gram.dtype).tiny)
    direction = gradient * scale
    slope = _dot(gradient, direction)
    for _ in range(steps):
        if bool((slope <= tolerance**2 * whole).all()):
            break
        step(direction @ gram, mask, scale, found, gradient, direction, slope)
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(2, keepdim=True)

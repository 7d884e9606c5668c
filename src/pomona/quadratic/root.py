"""The triangular root of a damped gram matrix, made once for all weights that read the same inputs."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pomona.vocabulary import InputError

_STRONGER = 10.0  # what damping grows by while the matrix is not positive definite
_WEAKEST, _STRONGEST = 1e-6, 10.0
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Root:
    """`upper` R, upper triangular with R R^T = H + ridge, float64 (groups, columns, columns); `ridge` (groups, columns).

    `strength` is the damping that was needed, in mean diagonals of the living inputs. `dead` (groups, columns) are inputs of
    which nothing was seen but zeros: they stand alone.
    """

    upper: Tensor
    ridge: Tensor
    dead: Tensor
    strength: float

    def solved(self, right: Tensor) -> Tensor:
        """(H + ridge)^-1 times `right` (groups, columns, n), float64."""
        return torch.cholesky_solve(right.flip(1), self.upper.flip(1, 2)).flip(1)


# What was made of a gram lives as long as the gram: weights that read one tensor share both, and nobody hands them around.
_made: MutableMapping[Tensor, dict[tuple[float, int], Root | None]] = WeakTensorKeyDictionary()


def root(gram: Tensor, damping: float) -> Root | None:
    """The root of H + ridge, where the ridge is `damping` times the mean diagonal; made once for each gram and damping.

    Where the matrix is not positive definite even so, damping grows tenfold until it is; None where none helps. Raises
    InputError for negative damping.
    """
    if gram not in _made:
        _made[gram] = {}
    found, key = _made[gram], (damping, gram._version)
    if key not in found:
        found[key] = _damped(gram, damping)
    return found[key]


def _damped(gram: Tensor, damping: float) -> Root | None:
    diagonal = gram.diagonal(dim1=1, dim2=2)
    dead = diagonal <= 0
    living = (diagonal.sum(1) / (~dead).sum(1).clamp_min(1))[:, None]
    unit = torch.where(living > 0, living, 1.0)
    for strength in _strengths(damping):
        ridge = torch.where(dead, unit, strength * unit).expand_as(diagonal)
        upper = gram.clone()
        upper.diagonal(dim1=1, dim2=2).add_(ridge)
        if factorised(upper):
            return Root(upper, ridge, dead, strength)
    return None


def factorised(matrix: Tensor) -> bool:
    """Put R in the place of `matrix` (groups, columns, columns), whose lower half is not read; whether R is all numbers.

    From the last block of columns to the first: what the later ones account for is taken away in one product, then the block's
    own root is what is left. All but a sliver of the work is products, and no second matrix is held.
    """
    for stop in range(matrix.shape[1], 0, -_BLOCK):
        start = max(0, stop - _BLOCK)
        panel, later = matrix[:, :stop, start:stop], matrix[:, :stop, stop:]
        panel -= later @ later[:, start:].mT
        corner, failed = torch.linalg.cholesky_ex(panel[:, start:].flip(1, 2))
        if failed.any():
            return False
        corner = corner.flip(1, 2)
        panel[:, start:] = corner
        panel[:, :start] = torch.linalg.solve_triangular(corner.mT, panel[:, :start], upper=False, left=False)
        matrix[:, start:stop, :start] = 0
    return True


def _strengths(damping: float) -> list[float]:
    if damping < 0:
        raise InputError(f"Damping is a share of the mean diagonal, at least 0; it is {damping:g}.")
    found = [damping]
    while (stronger := max(found[-1] * _STRONGER, _WEAKEST)) <= max(_STRONGEST, damping * _STRONGER):
        found.append(stronger)
    return found

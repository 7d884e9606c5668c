"""What a change of one weight does to its outputs, squared and summed over the calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pomona.statistics.input_gram import InputGram
from pomona.vocabulary import Decision, InputError, Statistic, View, finite
from pomona.vocabulary.layout import from_product, to_product

_STRONGER = 10.0  # what damping grows by while the matrix is not positive definite
_WEAKEST, _STRONGEST = 1e-6, 10.0
_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Quadratic:
    """tr((W - W') H (W - W')^T), to be made small over the W' that live where a mask says.

    `weight` W is float64 (groups, rows, columns) as in `layout.to_product`, `gram` H float64 (groups, columns, columns) as it
    was gathered, `ridge` (groups, columns) what is added to its diagonal before anything is solved. Only grouped convolutions
    have more than one group. A dead input, of which nothing was seen but zeros, makes its weights irrelevant: they are zero in
    `weight`, so that they are worth nothing, and its place in the damped matrix stands alone. `notes` say what had to be done
    to make the matrix positive definite.
    """

    view: View
    weight: Tensor
    gram: Tensor
    ridge: Tensor
    root: Tensor
    notes: tuple[str, ...] = ()

    needs = (InputGram(),)

    @classmethod
    def of(cls, view: View, damping: float = 0.01, statistic: Statistic = needs[0]) -> Quadratic:
        """The problem of a site on one weight, with `damping` times the mean of the diagonal of the living inputs added to it.

        Where the matrix is not positive definite even so, damping grows tenfold until it is, and `notes` say so. Raises
        InputError for other sites, for a weight that is not finite, and where no damping helps.
        """
        given = view.site.weight
        if given is None:
            raise InputError(f"{view.site.name} is no site on a single weight, so its layer problem is unknown; prune weights.")
        if not finite(view.tensors[given.tensor]):
            raise InputError(f"The weight {given.tensor} holds NaN or infinite numbers; mend the model before pruning it.")
        gram = view.stats[statistic]
        weight = to_product(given, view.tensors[given.tensor].detach()).double()
        diagonal = gram.diagonal(dim1=1, dim2=2)
        dead = diagonal <= 0
        living = (diagonal.sum(1) / (~dead).sum(1).clamp_min(1))[:, None]
        unit = torch.where(living > 0, living, 1.0)
        for strength in _strengths(damping):
            ridge = torch.where(dead, unit, strength * unit).expand_as(diagonal)
            root, failed = torch.linalg.cholesky_ex(_flipped(gram, ridge))
            if not failed.any():
                return cls(
                    view, weight.masked_fill(dead[:, None], 0.0), gram, ridge, root, _said(given.tensor, strength, damping)
                )
        raise InputError(
            f"The inputs of {given.tensor} cannot be made positive definite by any damping; check the model and data."
        )

    @property
    def dtype(self) -> torch.dtype:
        """What to compute in where a solver has the choice: float32, or float64 where the model is in float64."""
        assert self.view.site.weight is not None  # of() saw to it
        return torch.float64 if self.view.tensors[self.view.site.weight.tensor].dtype == torch.float64 else torch.float32

    @cached_property
    def damped(self) -> Tensor:
        """H with the ridge on its diagonal, float64."""
        return self.gram + torch.diag_embed(self.ridge)

    @property
    def upper(self) -> Tensor:
        """The upper triangular R with R R^T = damped, (groups, columns, columns), in `dtype`.

        Its inverse is what SparseGPT calls the Cholesky factor of the inverse: R_jj^-2 is the inverse's diagonal entry once
        the columns before j are settled. R itself is all that a sweep from left to right needs.
        """
        return self.factor(0, self.root.shape[1])

    def factor(self, start: int, stop: int) -> Tensor:
        """Columns of R from `start` to `stop`, down to the row of the last: what is below is zero. No second R is held."""
        size = self.root.shape[1]
        return self.root[:, size - stop :, size - stop : size - start].flip(1, 2).to(self.dtype)

    @cached_property
    def inverse(self) -> Tensor:
        """The inverse of the damped matrix, float64."""
        return torch.cholesky_inverse(self.root).flip(1, 2)

    @cached_property
    def energy(self) -> float:
        """tr(W H W^T): the squared outputs, bias left out."""
        return _form(self.weight.to(self.dtype), self.gram)

    def error(self, candidate: Tensor) -> float:
        """The share of the outputs' energy that `candidate` (groups, rows, columns) loses; no ridge is counted."""
        lost = _form((self.weight - candidate).to(self.dtype), self.gram)
        return lost / self.energy if self.energy else 0.0

    def mask(self, keep: Tensor) -> Tensor:
        """A decision about the site as bool (groups, rows, columns)."""
        given = self.view.site.weight
        assert given is not None  # of() saw to it
        elements = self.view.structure.expand(self.view.site, keep)[given.tensor].expand(given.shape)
        return to_product(given, elements).to(self.weight.device)

    def keep(self, mask: Tensor) -> Tensor:
        """The inverse of `mask`, for whole units."""
        given = self.view.site.weight
        assert given is not None  # of() saw to it
        elements = {given.tensor: from_product(given, mask).float()}
        return self.view.structure.reduce(self.view.site, elements, how="max", roles=("self",)) > 0

    def decision(self, keep: Tensor, candidate: Tensor) -> Decision:
        """Who stays, the weight that goes with it (zero where the mask is, in its own dtype), its error and the notes."""
        given = self.view.site.weight
        assert given is not None  # of() saw to it
        solved = candidate.masked_fill(~self.mask(keep), 0.0)
        value = from_product(given, solved).to(self.view.tensors[given.tensor].dtype)
        return Decision(keep, {given.tensor: value}, self.notes, self.error(solved))


def _strengths(damping: float) -> list[float]:
    if damping < 0:
        raise InputError(f"Damping is a share of the mean diagonal, at least 0; it is {damping:g}.")
    found = [damping]
    while (stronger := max(found[-1] * _STRONGER, _WEAKEST)) <= max(_STRONGEST, damping * _STRONGER):
        found.append(stronger)
    return found


def _said(name: str, strength: float, damping: float) -> tuple[str, ...]:
    if strength == damping:
        return ()
    return (
        f"The inputs of {name} depend on each other: damping {strength:g} instead of {damping:g} was needed to solve for it.",
    )


def _flipped(gram: Tensor, ridge: Tensor) -> Tensor:
    """The damped matrix with its columns in reverse, so that its lower factor is the upper one of the matrix itself."""
    made = gram.flip(1, 2)
    made.diagonal(dim1=1, dim2=2).add_(ridge.flip(1))
    return made


def _form(change: Tensor, gram: Tensor) -> float:
    """tr(D H D^T), a few columns at a time: H is never copied whole into another dtype."""
    total = 0.0
    for start in range(0, gram.shape[1], _AT_ONCE):
        part = gram[..., start : start + _AT_ONCE].to(change.dtype)
        total += float((change @ part).mul_(change[..., start : start + _AT_ONCE]).sum(dtype=torch.float64))
    return max(total, 0.0)

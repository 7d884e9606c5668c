"""What a change of one weight does to its outputs, squared and summed over the calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pomona.quadratic.root import Root, root
from pomona.statistics.input_gram import InputGram
from pomona.vocabulary import Decision, InputError, Statistic, View, finite
from pomona.vocabulary.layout import from_product, to_product
from pomona.vocabulary.precision import single_or_double

_AT_ONCE = 1024
_LARGE = 2.0**60  # beyond it, and below its inverse, squared outputs may leave the range of float32


@dataclass(frozen=True, eq=False)
class Quadratic:
    """tr((W - W') H (W - W')^T), to be made small over the W' that live where a mask says.

    `weight` W is (groups, rows, columns) as in `layout.to_product`, in float32, or in float64 where the model is; `gram` H
    float64 (groups, columns, columns) as it was gathered, over `unit`, a power of 2 that is 1 unless inputs are so large or small
    that their squares would not fit in float32; `root` that of H and what is added to its diagonal before anything is
    solved. Only grouped convolutions and stacks of matrices have more than one group. A dead input, of which nothing was seen
    but zeros, makes its weights irrelevant: they are zero in `weight`, so that they are worth nothing, and its place in the
    damped matrix stands alone. `notes` say what had to be done to make the matrix positive definite.
    """

    view: View
    weight: Tensor
    gram: Tensor
    root: Root
    notes: tuple[str, ...] = ()
    unit: float = 1.0

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
        stored = view.tensors[given.tensor].detach()
        if not finite(stored):
            raise InputError(f"The weight {given.tensor} holds NaN or infinite numbers; mend the model before pruning it.")
        gram = view.stats[statistic]
        if (unit := _unit(gram)) != 1.0:
            gram = gram / unit
        found = root(gram, damping)
        if found is None:
            raise InputError(
                f"The inputs of {given.tensor} cannot be made positive definite by any damping; check the model and data."
            )
        weight = to_product(given, single_or_double(stored))
        if found.dead.any():
            weight = weight.masked_fill(found.dead[:, None], 0.0)
        return cls(view, weight, gram, found, _said(given.tensor, found.strength, damping), unit)

    @property
    def dtype(self) -> torch.dtype:
        """What to compute in where a solver has the choice: float32, or float64 where the model is in float64."""
        return self.weight.dtype

    @property
    def ridge(self) -> Tensor:
        """What is added to the diagonal, (groups, columns)."""
        return self.root.ridge

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
        return self.root.upper.to(self.dtype)

    def factor(self, start: int, stop: int) -> Tensor:
        """Columns of R from `start` to `stop`, down to the row of the last: what is below is zero. No second R is held."""
        return self.root.upper[:, :stop, start:stop].to(self.dtype)

    @cached_property
    def inverse(self) -> Tensor:
        """The inverse of the damped matrix, float64."""
        return torch.cholesky_inverse(self.root.upper.flip(1, 2)).flip(1, 2)

    def solved(self, right: Tensor) -> Tensor:
        """The inverse of the damped matrix times `right` (groups, columns, n), float64."""
        return self.root.solved(right)

    @cached_property
    def energy(self) -> float:
        """tr(W H W^T): the squared outputs, bias left out."""
        return form(self.weight, self.gram)

    def error(self, candidate: Tensor) -> float:
        """The share of the outputs' energy that `candidate` (groups, rows, columns) loses; no ridge is counted."""
        return self._share(form((self.weight - candidate).to(self.dtype), self.gram))

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
        if self.view.site.shape == given.shape:  # units are elements
            return from_product(given, mask)
        elements = {given.tensor: from_product(given, mask).float()}
        return self.view.structure.reduce(self.view.site, elements, how="max", roles=("self",)) > 0

    def decision(self, keep: Tensor, candidate: Tensor, lost: float | None = None) -> Decision:
        """Who stays, the weight that goes with it (zero where the mask is, in its own dtype), its error and the notes.

        `lost` is tr(D H D^T) of `candidate` where the solver knows it, which spares a product with all of H. Raises InputError
        where the weight, or its error, would not be finite.
        """
        given = self.view.site.weight
        assert given is not None  # of() saw to it
        solved = torch.where(self.mask(keep), candidate, 0.0)
        value = from_product(given, solved).to(self.view.tensors[given.tensor].dtype)
        error = self.error(solved) if lost is None else self._share(lost)
        if not finite(value) or not math.isfinite(error):
            raise InputError(
                f"Solving for {given.tensor} gave NaN or infinite numbers: its weights or inputs leave the range of "
                f"{str(value.dtype).removeprefix('torch.')}; prune in float64, or leave it alone with --keep {given.tensor}."
            )
        return Decision(keep, {given.tensor: value}, self.notes, error)

    def _share(self, lost: float) -> float:
        return lost / self.energy if self.energy else 0.0


def _unit(gram: Tensor) -> float:
    most = float(gram.diagonal(dim1=1, dim2=2).amax())
    ordinary = 1 / _LARGE < most < _LARGE or most <= 0 or not math.isfinite(most)
    return 1.0 if ordinary else math.ldexp(1.0, math.frexp(most)[1])


def _said(name: str, strength: float, damping: float) -> tuple[str, ...]:
    if strength == damping:
        return ()
    return (
        f"The inputs of {name} depend on each other: damping {strength:g} instead of {damping:g} was needed to solve for it.",
    )


def form(change: Tensor, gram: Tensor) -> float:
    """tr(D H D^T) of a change D (groups, rows, columns).

    A few columns at a time, of which each pair is multiplied once: H is its own transpose.
    """
    total = 0.0
    for start in range(0, gram.shape[1], _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        part = gram[:, : here.stop, here].to(change.dtype)
        reached = (change[..., :start] @ part[:, :start]).mul_(2).add_(change[..., here] @ part[:, start:])
        total += float(reached.mul_(change[..., here]).sum(dtype=torch.float64))
    return max(total, 0.0)

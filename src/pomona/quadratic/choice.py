"""Who stays, chosen while weights change: as many as a proposal keeps, under the constraints of its structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Scores, View, Weight
from pomona.vocabulary.layout import from_product, product_shape, row_dims, to_product

Per = Literal["site", "row"]
Mask = Literal["chosen", "given"]


def check_mask(solver: str, mask: str) -> None:
    """Raises InputError where it is neither: a misspelt one would quietly be one of the two."""
    if mask not in ("chosen", "given"):
        raise InputError(f"The mask of {solver} is 'chosen' or 'given', not '{mask}'.")


@dataclass(frozen=True, eq=False)
class Choice:
    """Choices at one site. `per` says whether the proposal's count holds for the whole weight or for each of its rows.

    Of a stack of matrices each is a weight by itself: it gets its even share of the count.

    Weights are (groups, rows, columns) as in `layout.to_product`, all values here are of that shape or a range of its columns.
    """

    view: View
    proposal: Tensor
    per: Per = "site"

    @property
    def apart(self) -> bool:
        """Whether a range of columns can be chosen by itself: where units are single elements of the weight."""
        return self.view.site.shape == self._weight.shape

    @property
    def window(self) -> int:
        """How many columns must be chosen together."""
        return self.view.structure.window(self.view.site)

    def best(self, worth: Tensor) -> Tensor:
        """Bool (groups, rows, columns): the best of the whole weight."""
        site, structure, weight = self.view.site, self.view.structure, self._weight
        if self._each:
            return self._select(worth, self._counts)
        elements = {weight.tensor: from_product(weight, worth)}
        values = structure.reduce(site, elements, how="sum", roles=("self",))
        mask = structure.select(site, Scores(values), self._counts)
        return to_product(weight, structure.expand(site, mask)[weight.tensor].expand(weight.shape)).contiguous()

    def gradual(self, worth: Tensor, share: float) -> Tensor:
        """The best, and of those who are to leave the best `share` as well, whatever the structure."""
        mask = self.best(worth)
        more = round(share * int((~mask).sum()))
        spared = worth.masked_fill(mask, -torch.inf).flatten().topk(more).indices
        mask.view(-1)[spared] = True
        return mask

    def among(self, worth: Tensor, start: int) -> Tensor:
        """The best of the columns from `start` on, as many as `worth` has; every range gets its even share of the count."""
        return self._select(worth, self._until(start + worth.shape[2]) - self._until(start))

    def _select(self, worth: Tensor, counts: Tensor) -> Tensor:
        """Of what is chosen by itself: so many of all of it, of each row, or of each matrix of a stack."""
        groups, rows, width = worth.shape
        shape = (groups, rows * width) if self._each else (groups * rows, width)
        part = Weight(self._weight.tensor, "linear", shape, 0, 1)
        site = replace(self.view.site, shape=part.shape, weight=part)
        return self.view.structure.select(site, Scores(worth.reshape(part.shape)), counts).view(worth.shape)

    def _until(self, column: int) -> Tensor:
        columns = product_shape(self._weight)[2]
        return (self._of_rows * column + columns // 2) // columns

    @cached_property
    def _of_rows(self) -> Tensor:
        mask = to_product(self._weight, self.proposal).flatten(0, 1)
        return mask.sum(1) if self.per == "row" else self._shared(mask.sum())

    @cached_property
    def _counts(self) -> Tensor:
        if self.per == "site" or self._weight.out_dim is None:
            return self._shared(self.proposal.sum())
        dims = row_dims(self._weight) if self.apart else (0,)
        rows = self.proposal.movedim(dims, tuple(range(len(dims))))
        return rows.flatten(len(dims)).sum(-1).flatten()

    @property
    def _each(self) -> bool:
        """Whether each matrix of a stack is chosen from by itself."""
        return self.per == "site" and self.apart and self._weight.stack is not None

    def _shared(self, count: Tensor) -> Tensor:
        """The count, or that of each matrix: even, the first get one more where it does not divide."""
        if not self._each:
            return count
        number = product_shape(self._weight)[0]
        return (count + number - 1 - torch.arange(number, device=count.device)) // number

    @property
    def _weight(self) -> Weight:
        assert self.view.site.weight is not None  # the problem is made first
        return self.view.site.weight

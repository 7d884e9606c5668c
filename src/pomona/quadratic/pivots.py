"""What every unit is worth next to any others that stay, kept up to date while units come and go one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 1 << 22  # numbers in a table of trades that is looked at


@dataclass(frozen=True, eq=False)
class Pivots:
    """The principal pivot transform of H on the columns S that stay, float64, and the products of what hangs on it.

    `table` T holds H_SS^-1 on S, H_SS^-1 H_SG beside it (with the other sign below) and H_GG - H_GS H_SS^-1 H_SG on the
    columns G that left. `products` are F^T F, where F holds the fitted weights (negative) on S and what the outputs miss,
    (W - W') H, on G. So tr(T_gg^-1 F_g^T F_g) is what the error grows by if the unit g leaves, or falls by if it comes back, and
    when it does, all of T and F^T F change by a product of the unit's columns. `places` (units, k) are its columns.
    """

    table: Tensor
    products: Tensor
    places: Tensor

    @classmethod
    def of(cls, gram: Tensor, weight: Tensor, places: Tensor, stays: Tensor) -> Pivots:
        """With the columns that `stays` (columns,) says; `weight` (rows, columns) is W when all are there."""
        inside, gone = stays.nonzero()[:, 0], (~stays).nonzero()[:, 0]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram[inside][:, inside]))
        across = inverse @ gram[inside][:, gone]
        table, hanging = torch.empty_like(gram), torch.empty_like(weight)
        table[inside[:, None], inside], table[inside[:, None], gone] = inverse, across
        table[gone[:, None], inside] = -across.mT
        table[gone[:, None], gone] = gram[gone][:, gone] - gram[gone][:, inside] @ across
        hanging[:, inside] = -weight[:, inside] - weight[:, gone] @ across.mT
        hanging[:, gone] = weight[:, gone] @ table[gone[:, None], gone]
        return cls(table, hanging.mT @ hanging, places)

    def move(self, columns: Tensor) -> None:
        """These columns leave, or come back, and the others make up for it; in place."""
        table, products = self.table, self.products
        inverse = torch.linalg.inv(table[columns][:, columns])
        below, share = table[:, columns], inverse @ table[columns]
        table.addmm_(below, share, alpha=-1)
        table[columns], table[:, columns] = share, -below @ inverse
        table[columns[:, None], columns] = inverse
        beside, own = products[:, columns], products[columns][:, columns]
        half = beside - share.mT @ own / 2
        products.addmm_(half, share, alpha=-1).addmm_(share.mT, half.mT, alpha=-1)
        new = (share.mT @ own - beside) @ inverse
        products[:, columns], products[columns] = new, new.mT
        products[columns[:, None], columns] = inverse.mT @ own @ inverse

    def worth(self, which: Tensor) -> Tensor:
        """What the error grows by if a unit leaves, or falls by if it comes back, for the units `which` (numbers)."""
        columns = self.places[which]
        return _traces(_blocks(self.table, columns, columns), _blocks(self.products, columns, columns))

    def trades(self, leaving: Tensor, coming: Tensor) -> Iterator[Tensor]:
        """What the error grows by if one of the units `leaving` (numbers) is exchanged for one of `coming`; pieces of a table.

        The price of the one, and the gain of the other when the one has left: its T_jj and F_j are then
        T_jj - T_ji T_ii^-1 T_ij and F_j - F_i T_ii^-1 T_ij.
        """
        here, there = self.places[leaving], self.places[coming]
        own, products = _blocks(self.table, there, there), _blocks(self.products, there, there)
        number = max(1, _AT_ONCE // max(1, there.numel() * there.shape[1]))
        for some in torch.split(here, number):
            mine, squares = _blocks(self.table, some, some), _blocks(self.products, some, some)
            share = torch.linalg.inv(mine)[:, None] @ _pairs(self.table, some, there)
            mixed = share.mT @ _pairs(self.products, some, there)
            missed = products - mixed - mixed.mT + share.mT @ squares[:, None] @ share
            new = own - _pairs(self.table.mT, some, there).mT @ share
            yield _traces(mine, squares)[:, None] - _traces(new, missed)


def _blocks(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(units, k, k): those of the same unit."""
    return matrix[rows[:, :, None], columns[:, None]]


def _pairs(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(units, other units, k, k)"""
    return matrix[rows[:, None, :, None], columns[None, :, None]]


def _traces(matrices: Tensor, products: Tensor) -> Tensor:
    """tr(M^-1 X) of the last two dimensions."""
    if matrices.shape[-1] == 1:
        return (products / matrices)[..., 0, 0]
    solved: Tensor = torch.linalg.solve(matrices, products)
    return solved.diagonal(dim1=-2, dim2=-1).sum(-1)

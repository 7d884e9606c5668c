"""One threshold over all sites: the counts that meet a budget, whatever ranking makes their units comparable.

An allocation hands over `keys`, one ascending list a site (or one a row): the keys of its units in the order in which they
leave; or, of whole sites, the keys in any order. Units below one common threshold go. The threshold is found by bisection, so
the price is asked some sixty times and no list longer than a site is ever sorted or joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.native.selection import least, value_at
from pomona.vocabulary import Budget, InputError, Keeps, Site

_INFINITY = 0x7F800000  # the bits of +inf in float32


def cut(
    sites: Mapping[str, Site],
    keys: Mapping[str, Tensor],
    budget: Budget,
    shifts: Mapping[str, float] | None = None,
    ascending: bool = True,
) -> Keeps:
    """Counts whose price is at most the limit, met within one unit's cost (one step of `multiple`).

    `keys`: float32, shape (units,) for one list or (rows, units per row), ascending along the last dimension; rows that are alike
    may be one row, expanded. `shifts` are added to all keys of a site, so that sites can share one list. Ties at
    the threshold leave by site order, then by row. Bounds by site hold whatever the keys say; a row keeps at least its
    share of `lower`. Raises InputError, with what is reachable, when the lower bounds alone cost more than the limit.
    """
    ladders = [_Ladder.of(site, keys[name], budget, (shifts or {}).get(name, 0.0)) for name, site in sites.items()]

    def keeps(removed: list[Tensor]) -> Keeps:
        return budget.even({ladder.name: ladder.keep(gone) for ladder, gone in zip(ladders, removed, strict=True)})

    def fits(removed: list[Tensor]) -> bool:
        return budget.price(keeps(removed)) <= budget.limit

    _reachable(keeps([ladder.length - ladder.lower for ladder in ladders]), budget)
    nobody = [torch.zeros_like(ladder.lower) for ladder in ladders]
    if fits(nobody):
        return keeps(nobody)
    under, level = _climbed(ladders, fits) if ascending else _counted(ladders, fits)
    return keeps(_share(under, level, fits))


Fits = Callable[[list[Tensor]], bool]


def _climbed(ladders: list[_Ladder], fits: Fits) -> tuple[list[Tensor], list[Tensor]]:
    """How many lie below and at the lowest threshold such that removing everyone at or below it is enough."""
    too_few, enough = -_INFINITY - 1, _INFINITY  # float32 values ordered as integers
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if fits([ladder.below(value_at(middle), right=True) for ladder in ladders]):
            enough = middle
        else:
            too_few = middle
    under = [ladder.below(value_at(enough), right=False) for ladder in ladders]
    return under, [ladder.below(value_at(enough), right=True) - u for ladder, u in zip(ladders, under, strict=True)]


def _counted(ladders: list[_Ladder], fits: Fits) -> tuple[list[Tensor], list[Tensor]]:
    """The same of keys in any order."""
    found = least([ladder.keys for ladder in ladders], lambda removed: fits(list(removed[:, None])))
    return list(found.under[:, None]), list(found.level[:, None])


@dataclass(frozen=True, eq=False)
class _Ladder:
    """The keys of one site, (lists, length), with what bounds the counts of each list."""

    name: str
    keys: Tensor
    lists: int
    rows: bool
    lower: Tensor
    upper: Tensor
    multiple: int
    shift: float

    @classmethod
    def of(cls, site: Site, keys: Tensor, budget: Budget, shift: float) -> _Ladder:
        rows = keys.dim() == 2
        table = keys if rows else keys.view(1, -1)
        lists, length = table.shape
        lower = min(length, -(-budget.lower.get(site.name, 1) // lists))
        upper = max(lower, min(length, budget.upper.get(site.name, site.units) // lists))
        multiple = budget.multiple.get(site.name, 1)
        if multiple > 1:
            lower = min(length, -(-lower // multiple) * multiple)
            upper = max(lower, upper if upper == length else upper // multiple * multiple)
        alike = lists > 1 and table.stride(0) == 0
        return cls(
            site.name,
            table[:1] if alike else table,
            lists,
            rows,
            torch.full((lists,), lower),
            torch.full((lists,), upper),
            multiple,
            shift,
        )

    @property
    def length(self) -> int:
        """Units in each list."""
        return self.keys.shape[1]

    def below(self, threshold: float, right: bool) -> Tensor:
        """How many keys of each list lie under the threshold, or (`right`) at it as well."""
        wanted = torch.full((len(self.keys), 1), threshold - self.shift, dtype=self.keys.dtype, device=self.keys.device)
        return torch.searchsorted(self.keys, wanted, right=right)[:, 0].cpu().expand(self.lists)

    def keep(self, removed: Tensor) -> Tensor:
        """The count that stays in each list within the bounds, rounded down to a multiple; () or (rows,)."""
        stay = self.length - removed
        if self.multiple > 1:
            stay = torch.where(removed == 0, stay, stay // self.multiple * self.multiple)
        stay = torch.minimum(torch.maximum(stay, self.lower), self.upper)
        return stay if self.rows else stay[0]


def _share(under: list[Tensor], level: list[Tensor], fits: Fits) -> list[Tensor]:
    """Of those exactly at the threshold, only as many leave as must, the first lists first."""
    sizes = [len(u) for u in under]
    low, ties = torch.cat(under), torch.cat(level)
    before = ties.cumsum(0) - ties

    def removed(extra: int) -> list[Tensor]:
        return list(torch.split(low + (extra - before).clamp(min=0).minimum(ties), sizes))

    too_few, enough = 0, int(ties.sum())
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if fits(removed(middle)) else (middle, enough)
    return removed(enough)


def _reachable(least: Keeps, budget: Budget) -> None:
    price, dense = budget.price(least), budget.price.dense
    if price > budget.limit:
        if price >= dense:
            raise InputError("Nothing may be removed here: loosen the least that must stay (--min, --multiple) or the patterns.")
        raise InputError(
            f"The goal leaves {budget.limit / dense:.4g} of the dense price, but the least that may stay costs "
            f"{price / dense:.4g} of it; ask for at least that (as a sparsity: at most {1 - price / dense:.4g}), "
            f"prune more sites or lower their minimum."
        )

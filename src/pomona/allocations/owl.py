"""OWL: blocks with more outliers among their scores stay denser (Yin et al., 2024)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pomona.allocations.cut import cut
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Allocation, Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class Owl:
    """The sparsity of a block is that of all and something more or less: the less, the larger its share of outliers.

    Outliers are scores above `outlier` times the mean of their block: what the modules of one entry of a repeated list share
    (`layers.3.`); sites outside of one are blocks of their own. Shares are spread linearly over 2 * `spread` and centred at
    their mean, so one block among many may be almost 2 * `spread` away from it; one cut meets the goal exactly, whatever the
    sizes of the blocks. `per` as in `Uniform`: within rows, as Wanda compares.
    """

    outlier: float = 5.0
    spread: float = 0.08
    per: Literal["site", "row"] = "row"

    def __post_init__(self) -> None:
        if not self.outlier > 0 or not 0 <= self.spread < 1:
            raise InputError(f"Owl needs a positive outlier and a spread in [0, 1); got {self.outlier:g} and {self.spread:g}.")

    @property
    def shares_out(self) -> bool:
        """How much goes where is what it is for: it is refused where a structure fixes that."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts that meet the budget, () or, per row, (rows,)."""
        return self.knowing(self.digest(sites, scores)).allocate(sites, scores, budget)

    def digest(self, sites: Iterable[str], scores: Mapping[str, Scores]) -> dict[str, float]:
        """All that need be known of scores: for each site the share of outliers in its block, of which all sites are given."""
        blocks: dict[str, list[str]] = {}
        for name in sites:
            blocks.setdefault(block(name), []).append(name)
        return {
            name: share
            for names in blocks.values()
            for share in [self._outliers([scores[name] for name in names])]
            for name in names
        }

    def knowing(self, digest: Mapping[str, float]) -> Allocation:
        """The allocation that follows from such shares, by site."""
        return _Denser(digest, self.spread, self.per)

    def _outliers(self, scores: Sequence[Scores]) -> float:
        """The share of the scores of a block that are outliers; the dead do not count."""
        living = [s.value[torch.isfinite(s.value)].double() for s in scores]
        count = sum(len(values) for values in living)
        mean = sum(float(values.sum()) for values in living) / max(1, count)
        return sum(int((values > self.outlier * mean).sum()) for values in living) / max(1, count)


@dataclass(frozen=True)
class _Denser:
    """Sites with larger `shares` stay denser, by up to 2 * `spread` between the least and the largest."""

    shares: Mapping[str, float]
    spread: float
    per: Literal["site", "row"]

    @property
    def blind(self) -> bool:
        """Reads no scores."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts that meet the budget, () or, per row, (rows,)."""
        more = dict(zip(sites, shifts([self.shares[name] for name in sites], self.spread), strict=True))
        return cut(sites, Uniform(self.per).keys(sites), budget, more)


def block(name: str) -> str:
    """The entry of a repeated list that a site belongs to: its name up to the first number, or all of it."""
    found = re.match(r"(?:.*?\.)?\d+\.", name)
    return found[0] if found else name


def shifts(shares: Sequence[float], spread: float) -> list[float]:
    """How much denser than the mean each is: `shares` stretched over 2 * `spread`, their mean at 0."""
    least, most = min(shares, default=0.0), max(shares, default=0.0)
    if most == least:
        return [0.0] * len(shares)
    stretched = [(share - least) / (most - least) * 2 * spread for share in shares]
    return [value - sum(stretched) / len(stretched) for value in stretched]

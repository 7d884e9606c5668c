"""OWL: blocks with more outliers among their scores stay denser (Yin et al., 2024)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pomona.allocations.cut import cut
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class Owl:
    """The sparsity of a block is that of all, up to `spread` more or less, the less the larger its share of outliers.

    Outliers are scores above `outlier` times the mean of their block: what the modules of one entry of a repeated list share
    (`layers.3.`); sites outside of one are blocks of their own. Shares are spread linearly over 2 * `spread` and centred; one cut
    meets the goal exactly, whatever the sizes of the blocks. `per` as in `Uniform`: within rows, as Wanda compares.
    """

    outlier: float = 5.0
    spread: float = 0.08
    per: Literal["site", "row"] = "row"

    def __post_init__(self) -> None:
        if not self.outlier > 0 or not 0 <= self.spread < 1:
            raise InputError(f"Owl needs a positive outlier and a spread in [0, 1); got {self.outlier:g} and {self.spread:g}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts that meet the budget, () or, per row, (rows,)."""
        blocks: dict[str, list[str]] = {}
        for name in sites:
            blocks.setdefault(block(name), []).append(name)
        less = shifts([self._outliers([scores[name] for name in names]) for names in blocks.values()], self.spread)
        even = Uniform(self.per).keys(sites)
        keys = {name: even[name] + shift for names, shift in zip(blocks.values(), less, strict=True) for name in names}
        return cut(sites, {name: keys[name] for name in sites}, budget)

    def _outliers(self, scores: Sequence[Scores]) -> float:
        """The share of the scores of a block that are outliers; the dead do not count."""
        values = torch.cat([s.value[torch.isfinite(s.value)].double() for s in scores])
        return float((values > self.outlier * values.mean()).double().mean()) if len(values) else 0.0


def block(name: str) -> str:
    """The entry of a repeated list that a site belongs to: its name up to the first number, or all of it."""
    found = re.match(r"(?:.*?\.)?\d+\.", name)
    return found[0] if found else name


def shifts(shares: Sequence[float], spread: float) -> list[float]:
    """How much denser than the mean each block is: `shares` stretched over 2 * `spread`, their mean at 0."""
    least, most = min(shares, default=0.0), max(shares, default=0.0)
    if most == least:
        return [0.0] * len(shares)
    stretched = [(share - least) / (most - least) * 2 * spread for share in shares]
    return [value - sum(stretched) / len(stretched) for value in stretched]

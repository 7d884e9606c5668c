"""n:m sparsity: of every m neighbours along the input, n stay (Mishra et al., 2021; Yao et al., Balanced Sparsity, 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.native.patterns import best_of
from pomona.structures.chosen import chosen, known, matrices, wanted
from pomona.structures.elements import element_site, its_elements, weight_of
from pomona.structures.top import rank
from pomona.vocabulary import Graph, InputError, Scores, Site, Weight
from pomona.vocabulary.layout import from_matrix, matrix_shape, to_matrix


@dataclass(frozen=True)
class NM:
    """Keep n of every m consecutive weights along the input dimension, the one that the product sums over.

    For convolutions these are input channels at one kernel position, the layout that sparse tensor cores read. With
    m as long as a row this is row-balanced top-k. A weight whose input width m does not divide is refused, never
    skipped in silence: name it in `keep`.
    """

    n: int = 2
    m: int = 4
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    spellings: ClassVar[tuple[str, ...]] = ("2:4",)

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise InputError(f"{self.n}:{self.m} keeps {self.n} of every {self.m}, which is no pruning; write 2:4 or 1:4.")

    @classmethod
    def read(cls, text: str) -> NM | None:
        """`2:4`, any n:m."""
        found = re.fullmatch(r"(\d+):(\d+)", text)
        return cls(int(found[1]), int(found[2])) if found else None

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        weight = site.weight
        if site.kind != "element" or weight is None or site.shape != weight.shape:
            return False
        return weight.prunable and wanted(site, self.only, self.keep)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site a weight. Raises InputError where m does not divide the input width."""
        known(graph, *self.only, *self.keep)
        found = chosen([element_site(weight) for weight in matrices(graph)], self.only, self.keep)
        for site in found:
            self._fits(weight_of(site))
        return found

    def _fits(self, weight: Weight) -> None:
        width = matrix_shape(weight)[1]
        if width % self.m:
            grouped = " a group" if weight.conv is not None and weight.conv.groups > 1 else ""
            raise InputError(
                f"{self} needs input widths divisible by {self.m}; {weight.tensor} has {width}{grouped}. "
                f"Leave it alone with --keep {weight.tensor}."
            )

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """Elements are units: nothing is gathered."""
        return its_elements(site, elements, roles)

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """The n best of every m. The only other count that this structure knows is all of them."""
        weight = weight_of(site)
        if int(keep.sum()) >= site.units:
            return torch.ones(site.shape, dtype=torch.bool, device=scores.value.device)
        rows, width, k = matrix_shape(weight)
        groups = to_matrix(weight, rank(scores)).reshape(rows * width // self.m, self.m, k)
        return from_matrix(weight, best_of(groups, self.n).view(rows, width, k))

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """The mask itself."""
        return {site.members[0].tensor: keep}

    def feasible(self, site: Site) -> int | None:
        """n/m of the elements."""
        return site.units * self.n // self.m

    def window(self, site: Site) -> int:
        """Each m neighbours are chosen together."""
        return self.m

"""Blocks: r x c tiles of a weight live or die together (Narang et al., 2017), the grain that dense kernels can skip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import pad

from pomona.structures.chosen import chosen, known, matrices, wanted
from pomona.structures.elements import element_site, its_elements, weight_of
from pomona.structures.top import best
from pomona.vocabulary import Graph, InputError, Scores, Site, Weight
from pomona.vocabulary.layout import from_matrix, matrix_shape, to_matrix


@dataclass(frozen=True)
class Block:
    """Tiles of `rows` output features by `columns` inputs; for convolutions, of channels at one kernel position.

    The grid has shape (rows of tiles, columns of tiles), with kernel positions as a third dimension where there are
    several; unit (i, j, p) covers outputs i*rows.., inputs j*columns.. of `layout.to_matrix`. Tiles at the far edges
    may be smaller. Counts of shape (rows,) are by row of tiles.
    """

    rows: int = 4
    columns: int = 1
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    spellings: ClassVar[tuple[str, ...]] = ("4x1", "block 4x1")

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise InputError(f"A block of {self.rows}x{self.columns} has no elements; write 4x1 or 16x4.")

    @classmethod
    def read(cls, text: str) -> Block | None:
        """`4x1`, `block 4x1` or `block:4x1`, any rows x columns."""
        found = re.fullmatch(r"(?:blocks?[\s:]*)?(\d+)x(\d+)", text)
        return cls(int(found[1]), int(found[2])) if found else None

    def __str__(self) -> str:
        return f"blocks of {self.rows}x{self.columns}"

    def grid(self, weight: Weight) -> tuple[int, ...]:
        """The shape of the grid of tiles on a weight."""
        out, width, k = matrix_shape(weight)
        tiles = (-(-out // self.rows), -(-width // self.columns))
        return (*tiles, k) if k > 1 else tiles

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        weight = site.weight
        if site.kind != "element" or weight is None or site.shape != self.grid(weight):
            return False
        return weight.prunable and wanted(site, self.only, self.keep)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site a weight. Raises InputError when the patterns name nothing or leave nothing."""
        known(graph, *self.only, *self.keep)
        return chosen([element_site(weight, self.grid(weight)) for weight in matrices(graph)], self.only, self.keep)

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """The sum, mean or maximum over each tile; what an edge tile lacks does not count."""
        values = its_elements(site, elements, roles)
        tiles = self._tiles(site, values, fill=float("-inf") if how == "max" else 0.0)
        if how == "max":
            return tiles.amax((1, 3)).view(site.shape)
        total = tiles.sum((1, 3))
        if how == "mean":
            total = total / self._tiles(site, values.new_ones(values.shape), 0.0).sum((1, 3))
        return total.view(site.shape)

    def _tiles(self, site: Site, values: Tensor, fill: float) -> Tensor:
        """(rows of tiles, rows, columns of tiles, columns, k)."""
        weight = weight_of(site)
        out, width, k = matrix_shape(weight)
        down, across = site.shape[:2]
        short = (0, 0, 0, across * self.columns - width, 0, down * self.rows - out)
        return pad(to_matrix(weight, values), short, value=fill).view(down, self.rows, across, self.columns, k)

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """Exactly `keep` tiles, of the weight or of each row of tiles."""
        return best(scores, keep)

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """Every element of a living tile is alive."""
        weight = weight_of(site)
        out, width, k = matrix_shape(weight)
        tiles = keep.view(*site.shape[:2], k).repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        return {weight.tensor: from_matrix(weight, tiles[:out, :width])}

    def feasible(self, site: Site) -> int | None:
        """Every count will do."""
        return None

    def window(self, site: Site) -> int:
        """The inputs of one tile are chosen together."""
        return self.columns

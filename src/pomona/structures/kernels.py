"""Kernels: what one filter of a convolution does with one of its input channels lives or dies as a whole (Mao et al., 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.structures.chosen import chosen, known, matrices, wanted
from pomona.structures.elements import element_site, its_elements, weight_of
from pomona.structures.top import best
from pomona.vocabulary import Graph, InputError, Scores, Site, Weight
from pomona.vocabulary.layout import from_matrix, matrix_shape, to_matrix


@dataclass(frozen=True)
class Kernels:
    """Units are the kernels of convolutions, all kernel positions of one pair of output and input channel.

    The grid has shape (output channels, input channels of a group). Counts of shape (rows,) are by output channel.
    """

    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    spellings: ClassVar[tuple[str, ...]] = ("kernels",)

    @classmethod
    def read(cls, text: str) -> Kernels | None:
        """`kernels`."""
        return cls() if text in ("kernels", "kernel") else None

    def __str__(self) -> str:
        return "kernels"

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        weight = site.weight
        if site.kind != "element" or weight is None or weight.conv is None or site.shape != _grid(weight):
            return False
        return wanted(site, self.only, self.keep)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site a convolution. Raises InputError when there is none, or the patterns name or leave nothing."""
        known(graph, *self.only, *self.keep)
        found = [element_site(weight, _grid(weight)) for weight in matrices(graph) if weight.conv is not None]
        if not found:
            raise InputError("The model has no convolutions, so it has no kernels to prune; prune weights or axes.")
        return chosen(found, self.only, self.keep)

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """The sum, mean or maximum over each kernel."""
        kernels = to_matrix(weight_of(site), its_elements(site, elements, roles))
        return kernels.amax(2) if how == "max" else kernels.mean(2) if how == "mean" else kernels.sum(2)

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """Exactly `keep` kernels, of the weight or of each output channel."""
        return best(scores, keep)

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """Every element of a living kernel is alive."""
        weight = weight_of(site)
        return {weight.tensor: from_matrix(weight, keep[:, :, None].expand(matrix_shape(weight)))}

    def feasible(self, site: Site) -> int | None:
        """Every count will do."""
        return None

    def window(self, site: Site) -> int:
        """Each kernel is chosen by itself."""
        return 1


def _grid(weight: Weight) -> tuple[int, int]:
    out, width, _ = matrix_shape(weight)
    return out, width

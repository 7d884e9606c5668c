"""Single weights: every element lives or dies by itself (unstructured pruning)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.structures.chosen import chosen, known, matrices, wanted
from pomona.structures.elements import element_site, its_elements
from pomona.structures.top import best
from pomona.vocabulary import Graph, Scores, Site
from pomona.vocabulary.layout import row_dims


@dataclass(frozen=True)
class Weights:
    """Units are the elements of the linear, convolution and recurrent weights, first and last layer included.

    `only` and `keep` are names, glob patterns over them, or classes of modules. Biases, norms and embeddings take part only when
    asked for. A row, for counts of shape (rows,), is what has the same index along the weight's output dimension, of each
    expert by itself where several are stacked.
    """

    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    biases: bool = False
    norms: bool = False
    embeddings: bool = False

    spellings: ClassVar[tuple[str, ...]] = ("weights",)

    @classmethod
    def read(cls, text: str) -> Weights | None:
        """`weights`."""
        return cls() if text in ("weights", "weight", "unstructured") else None

    def __str__(self) -> str:
        return "weights"

    @property
    def _also(self) -> tuple[str, ...]:
        asked = {"bias": self.biases, "norm": self.norms, "embedding": self.embeddings}
        return tuple(kind for kind, yes in asked.items() if yes)

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        weight = site.weight
        if site.kind != "element" or weight is None or site.shape != weight.shape:
            return False
        return (weight.prunable or weight.kind in self._also) and wanted(site, self.only, self.keep)

    def sites(self, graph: Graph) -> Sequence[Site]:
        """One site a weight. Raises InputError when the patterns name nothing or leave nothing."""
        known(graph, *self.only, *self.keep)
        return chosen([element_site(weight) for weight in matrices(graph, self._also)], self.only, self.keep)

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """Elements are units: nothing is gathered."""
        return its_elements(site, elements, roles)

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """Exactly `keep` elements, of the weight, of each output row or of each matrix of a stack."""
        return best(scores, keep, row_dims(site.weight) if site.weight else (0,))

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """The mask itself."""
        return {site.members[0].tensor: keep}

    def feasible(self, site: Site) -> int | None:
        """Every count will do."""
        return None

    def window(self, site: Site) -> int:
        """Each element is chosen by itself."""
        return 1

"""Several structures under one goal: heads and neurons, or 2:4 here and single weights there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from pomona.structures.chosen import Emptied
from pomona.vocabulary import Graph, InputError, Scores, Site, Structure


class Owning(Structure, Protocol):
    """A structure that knows its own sites again."""

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        ...


@dataclass(frozen=True)
class Union:
    """The sites of all `structures`; whatever is asked about a site is answered by the first structure that owns it."""

    structures: tuple[Owning, ...]

    spellings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls, text: str) -> Union | None:
        """Any structures joined by `+`."""
        from pomona.structures.text import structure

        words = text.split("+")
        return cls(tuple(structure(word) for word in words)) if len(words) > 1 else None  # type: ignore[misc]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.structures)

    def owns(self, site: Site) -> bool:
        """Whether a site is one that this structure would make."""
        return any(part.owns(site) for part in self.structures)

    def _of(self, site: Site) -> Structure:
        return next(part for part in self.structures if part.owns(site))

    def sites(self, graph: Graph) -> Sequence[Site]:
        """All sites, in the order of the structures; a structure that the user's bounds leave nothing has none.

        Raises InputError where that is so for all, or where two structures claim the same site.
        """
        found: list[Site] = []
        empty = None
        for part in self.structures:
            try:
                found += part.sites(graph)
            except Emptied as nothing:
                empty = nothing
        if empty is not None and not found:
            raise empty
        names = [site.name for site in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"Two of {self} claim {twice}; set them apart with only=... and keep=....")
        return found

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """As the owner of the site reduces."""
        return self._of(site).reduce(site, elements, how, roles)

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """As the owner of the site selects."""
        return self._of(site).select(site, scores, keep)

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """As the owner of the site expands."""
        return self._of(site).expand(site, keep)

    def feasible(self, site: Site) -> int | None:
        """As the owner of the site allows."""
        return self._of(site).feasible(site)

    def window(self, site: Site) -> int:
        """As the owner of the site needs."""
        return self._of(site).window(site)

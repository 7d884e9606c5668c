"""SparedEnds: the first and the last blocks of a stack stay whole (Ma et al., LLM-Pruner, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pomona.allocations.owl import block
from pomona.allocations.uniform import Uniform
from pomona.vocabulary import Allocation, Budget, InputError, Keeps, Scores, Site


@dataclass(frozen=True)
class SparedEnds:
    """What `inner` leaves when the first and last shares of the blocks lose nothing: by default 4 and 2 of 32, as the paper.

    Blocks are the numbered entries that have sites, in the order of the model; counts of them are rounded, so a stack of three
    spares none. Sites outside of blocks, such as a residual stream, are cut as `inner` says; the rest bears what the ends do not.
    """

    inner: Allocation = field(default_factory=Uniform)
    first: float = 1 / 8
    last: float = 1 / 16

    def __post_init__(self) -> None:
        if not (0 <= self.first <= 1 and 0 <= self.last <= 1 and self.first + self.last < 1):
            raise InputError(f"The ends are shares of the blocks, together below 1; got {self.first:g} and {self.last:g}.")

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """The inner counts; raises InputError where the blocks between cannot meet the goal alone."""
        spared = self.spared(sites)
        whole = {name: min(sites[name].units, budget.upper.get(name, sites[name].units)) for name in spared}
        return self.inner.allocate(sites, scores, replace(budget, lower={**budget.lower, **whole}))

    def spared(self, sites: Mapping[str, Site]) -> list[str]:
        """The names of the sites at the ends of each stack."""
        stacks: dict[str, dict[str, list[str]]] = {}
        for name in sites:
            if (entry := block(name)) != name:
                stacks.setdefault(entry.rstrip(".").rpartition(".")[0], {}).setdefault(entry, []).append(name)
        found = []
        for blocks in stacks.values():
            names, number = list(blocks.values()), len(blocks)
            ends = names[: round(self.first * number)] + names[number - round(self.last * number) :]
            found += [name for end in ends for name in end]
        return found

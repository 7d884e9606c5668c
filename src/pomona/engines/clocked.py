"""Latency as a price: what keep counts leave of the milliseconds that a table of op times foretells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from pomona.vocabulary import InputError, Keeps, Site


class Foretold(Protocol):
    """What a model of some size takes, in milliseconds."""

    def at(self, sizes: Mapping[str, int]) -> float:
        """Axis name -> units that stay; what is not named is whole."""
        ...

    def along(self, sizes: Mapping[str, int], axis: str, counts: Sequence[int]) -> Sequence[float]:
        """`at` for several counts of one axis."""
        ...

    def of_blocks(self, sizes: Mapping[str, int], blocks: Sequence[str]) -> Sequence[float]:
        """The part of it that each of these modules takes."""
        ...


@dataclass(frozen=True, eq=False)
class Clocked:
    """Axis sites shrink ops, branch sites take away the quickest of their blocks; zeroed elements save no time."""

    forecast: Foretold
    sites: tuple[Site, ...]

    @classmethod
    def of(cls, forecast: Callable[[], Foretold], sites: tuple[Site, ...]) -> Clocked:
        """Raises InputError, before anything is timed, where no site can save time."""
        if all(site.kind == "element" for site in sites):
            raise InputError(
                "Zeroed weights take as long as others, so they meet no goal in latency; prune what makes ops smaller, "
                "like --structure channels, heads+neurons, axes or layers."
            )
        return cls(forecast(), sites)

    @cached_property
    def dense(self) -> float:
        """Milliseconds of the untouched model."""
        return self.forecast.at({})

    def __call__(self, keeps: Keeps) -> float:
        """Milliseconds when these counts stay."""
        sizes = self._sizes(keeps)
        return self.forecast.at(sizes) - self._skipped(sizes, keeps)

    def along(self, keeps: Keeps, name: str, counts: Sequence[int]) -> Sequence[float]:
        """The same for several counts of one axis site; other sites one by one."""
        site = next(site for site in self.sites if site.name == name)
        branches = any(s.kind == "branch" for s in self.sites)
        if site.axis is None or branches:
            return [self({**keeps, name: torch.tensor(count)}) for count in counts]
        return self.forecast.along(self._sizes(keeps), site.axis.name, counts)

    def _sizes(self, keeps: Keeps) -> dict[str, int]:
        return {s.axis.name: int(keeps[s.name].sum()) for s in self.sites if s.axis is not None and s.name in keeps}

    def _skipped(self, sizes: Mapping[str, int], keeps: Keeps) -> float:
        saved = 0.0
        for site in self.sites:
            if site.kind == "branch" and site.name in keeps:
                gone = site.units - int(keeps[site.name].sum())
                saved += sum(sorted(self.forecast.of_blocks(sizes, site.blocks))[:gone])
        return saved

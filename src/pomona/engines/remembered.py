"""Statistics that stay on disk, so that another goal or structure needs no new pass over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pomona.engines.decide import Gather
from pomona.engines.journal import Journal
from pomona.vocabulary import Gathered, Site, Statistic


@dataclass(frozen=True)
class Remembered:
    """One file for each place (a block, the whole model) in the journal's folder; the journal knows the model and the data.

    Of the dense model at once, they are exact for any goal. Block by block, a block's statistics are of what blocks gave that
    were cut to the goal of the run that gathered them: exact for the first block, near for the others.
    """

    journal: Journal

    def over(self, place: str, sites: Sequence[Site], gather: Gather) -> Gather:
        """What was gathered there before, or, where something is missing, what `gather` brings now."""

        def remembered(needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
            before = self._read(place, sites, needs)
            if before is not None:
                return before
            found = gather(needs)
            self._write(place, sites, needs, found)
            return found

        return remembered

    def holds(self, place: str, sites: Sequence[Site], needs: Sequence[Statistic]) -> bool:
        """Whether nothing needs to be gathered there."""
        return not sites or self._read(place, sites, needs) is not None

    def _read(self, place: str, sites: Sequence[Site], needs: Sequence[Statistic]) -> dict[str, Gathered] | None:
        state = self.journal.read(f"{place}.safetensors")
        if state is None or any(repr(need) not in state["at"].get(site.name, {}) for site in sites for need in needs):
            return None
        values, at = state["values"], state["at"]
        return {site.name: Gathered({need: values[at[site.name][repr(need)]] for need in needs}) for site in sites}

    def _write(self, place: str, sites: Sequence[Site], needs: Sequence[Statistic], found: Mapping[str, Gathered]) -> None:
        values: dict[int, Tensor] = {id(found[site.name][need]): found[site.name][need] for site in sites for need in needs}
        number = {one: n for n, one in enumerate(values)}  # readers of one tensor share what was gathered on it
        at = {site.name: {repr(need): number[id(found[site.name][need])] for need in needs} for site in sites}
        self.journal.write({"values": list(values.values()), "at": at}, f"{place}.safetensors")

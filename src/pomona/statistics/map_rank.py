"""How many independent rows the map of a unit has (Lin et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.readers import inputs, maps
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class MapRank:
    """Mean over examples and readers of the rank of what a unit sends to its readers: float64 of shape (units,). For axis sites.

    A singular value counts where it is above the largest one times the longer side times 1.2e-7, the spacing of float32, in
    which ranks are always taken. Readers that see no more than one row (behind global pooling) count only where there are
    no others. Raises InputError for units without any map, such as the neurons of a plain network.
    """

    probe: Probe = field(default_factory=lambda: Forward(whole=True))

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        found = maps(site, seen)
        telling = [z for z in found if min(z.shape[2:]) > 1]
        if not telling and (site.axis is None or site.axis.family != "channel"):
            raise InputError(
                f"The units of {site.name} are single numbers at each position, so their maps have no rank; "
                "skip it, or use a criterion such as chip or mean-activation."
            )
        for z in telling or found:
            # A map of NaN never gets here: the collector refuses them.
            rank = torch.linalg.matrix_rank(z.float()).double()  # (examples, units)
            state = added(state, {"sum": rank.sum(0), "examples": count(len(rank))})
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean."""
        return state["sum"] / state["examples"]

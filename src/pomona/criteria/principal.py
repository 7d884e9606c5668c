"""Principal: the energy along each principal direction of an axis (SliceGPT, Ashkboos et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.quadratic.directions import directions
from pomona.statistics.stream_gram import StreamGram, turning_of
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Principal:
    """Share of the second moment along the i-th principal direction, which is unit i once the axis is turned: for `Turned`.

    The sum of those that leave is the share of the squared signal that is lost, on average over all places that read the axis.
    Behind LayerNorms the first is the direction of the mean, which they take off and which has to stay.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (StreamGram(),)

    def score(self, view: View) -> Scores:
        """One value a unit, falling; raises InputError for what cannot be turned."""
        centred = turning_of(view.site).centred
        energies, _ = directions(view.stats[StreamGram()], centred)
        shares = energies / energies.sum()
        if centred:
            shares[0] = 1.0
        return Scores(shares.float())

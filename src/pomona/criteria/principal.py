"""Principal: the energy along each principal direction of an axis (SliceGPT, Ashkboos et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.quadratic.directions import directions, moment
from pomona.statistics.stream_gram import StreamGram, turning_of
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Principal:
    """Share of the second moment along the i-th principal direction, which is unit i once the axis is turned: for `Turned`.

    The sum of those that leave is the share of the squared signal that is lost, on average over all places that read the axis.
    With `apart` the moments of every place are gathered by themselves, which is for solvers that need them so. Behind LayerNorms
    the first is the direction of the mean, which they take off and which has to stay.
    """

    apart: bool = False

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The moments of the stream."""
        return (StreamGram(apart=self.apart),)

    def score(self, view: View) -> Scores:
        """One value a unit, falling; raises InputError for what cannot be turned."""
        centred = turning_of(view.site).centred
        energies, _ = directions(moment(view.stats[StreamGram(apart=self.apart)]), centred)
        shares = energies / energies.sum()
        if centred:
            shares[0] = 1.0
        return Scores(shares.float())

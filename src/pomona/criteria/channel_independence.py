"""CHIP: channels that the others of their layer can stand in for go first (Sui et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.independence import Independence
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class ChannelIndependence:
    """The drop of the nuclear norm of a layer's feature maps when the unit's map is zeroed, averaged over examples.

    Grows with the activations, so that layers are not comparable without an allocation that makes them so. As in the paper
    the loss of several units is taken for the sum of their single losses. Maps are what readers receive.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (Independence(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        return Scores(view.stats[Independence()].float())

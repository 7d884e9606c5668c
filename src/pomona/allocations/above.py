"""Above: the density that emerges from a threshold on the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pomona.allocations.everywhere import Global
from pomona.vocabulary import Budget, Keeps, Scores, Site


@dataclass(frozen=True)
class Above:
    """Units whose score is above `threshold` stay, whatever that costs, while the budget asks for nothing.

    A budget below the dense price is met exactly instead, by moving the one threshold (as `Global` does): this is how a
    run whose density emerges ends at a goal.
    """

    threshold: float = 0.0

    @property
    def emerges(self) -> bool:
        """Needs no goal."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts (), possibly 0 while nothing is asked for."""
        if budget.limit < budget.price.dense:
            return Global().allocate(sites, scores, budget)
        return {name: (scores[name].value > self.threshold).sum() for name in sites}

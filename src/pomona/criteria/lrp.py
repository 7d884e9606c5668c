"""LRP: what carries little of the class scores matters little (Yeom et al., Pruning by explaining, 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.probes.lrp import RelevancePass, Start
from pomona.probes.lrp_rules import Rule
from pomona.statistics.carried_relevance import CarriedRelevance
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Lrp:
    """Relevance of a unit for the classes of the reference examples, by layer-wise relevance propagation; no gradients.

    Relevance is conserved from layer to layer, so layers compare as they are (`Global()`). Linear layers split it by the
    `dense` rule, convolutions by the `convolution` rule, batch norms folded; a few examples of each class suffice, and as
    many of each. Of the paper's rules the special ones for the first layer are left out: nothing below it is pruned.
    """

    dense: Rule = "epsilon"
    convolution: Rule = "positive"
    epsilon: float = 1e-6
    start: Start = "logit"

    def __post_init__(self) -> None:
        self.needs  # noqa: B018 (refuses bad settings before any work)

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The relevance that units carry."""
        return (CarriedRelevance(RelevancePass(self.dense, self.convolution, self.epsilon, self.start)),)

    def score(self, view: View) -> Scores:
        """In units of the class score, comparable over the whole network."""
        return Scores(view.stats[self.needs[0]].float())

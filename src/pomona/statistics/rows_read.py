"""How many rows of numbers a weight has been multiplied with: what there is to tell its columns apart by."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.input_gram import InputGram, pieces
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class RowsRead:
    """Tokens, or positions of a convolution, over all examples: a float64 scalar; of a stack of matrices, those of all."""

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """As for the gram."""
        return InputGram(self.probe).watch(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        assert site.weight is not None  # watch() saw to it
        return added(state, {"rows": count(sum(piece.shape[1] for _, piece in pieces(site.weight, seen)))})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The number."""
        return state["rows"]

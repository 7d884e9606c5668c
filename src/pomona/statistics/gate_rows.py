"""What the loss says about a gate on each unit, pass by pass (Kwon et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.readers import readers
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class GateRows:
    """dL/dm_u at m = 1, m_u a factor on all that unit u hands to its readers: float64 (passes, units), a row a pass.

    Through the weights that read the unit it is the sum of w * dL/dw. Rows times rows are a Fisher information whose cross terms
    are kept, without a matrix of units times units. A pass is a batch: the size of the batches is part of the result.
    """

    probe: Probe = field(default_factory=LossGradient)

    def watch(self, site: Site) -> Watch:
        """The gradients of the readers; raises InputError where there are none."""
        return Watch(grads=frozenset(m.tensor for m in readers(site)))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """One more row."""
        terms = [m.rows(seen.weights[m.tensor].double() * seen.grads[m.tensor].double()).sum(1) for m in readers(site)]
        row = {"rows": torch.stack(terms).sum(0)[None]}
        return row if state is None else self.merge(state, row)

    def merge(self, a: State, b: State) -> State:
        """The rows of both."""
        return {"rows": torch.cat([a["rows"], b["rows"]])}

    def value(self, state: State, site: Site) -> Tensor:
        """The rows."""
        return state["rows"]

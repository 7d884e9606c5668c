"""What is missing where a weight's product goes, by what the weight reads: the linear term of an asymmetric layer problem."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.paired import Paired
from pomona.statistics.input_gram import InputGram
from pomona.statistics.sums import added
from pomona.vocabulary import Probe, Seen, Site, State, Watch
from pomona.vocabulary.layout import product_shape
from pomona.vocabulary.precision import single_or_double


@dataclass(frozen=True)
class Drift:
    """C = sum of x m^T over all tokens: float64 of shape (groups, columns, rows), x what the weight reads, m what is missing.

    A weight W + D makes up for ||m - D x||^2 = ||m||^2 - 2 tr(D C) + tr(D H D^T), H the gram of the same inputs. Zero for
    weights of which it is not known what is missing (stacks of matrices, convolutions, layers that do more than multiply).
    """

    probe: Probe = field(default_factory=Paired)

    def watch(self, site: Site) -> Watch:
        """As for the gram."""
        return InputGram(self.probe).watch(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        weight = site.weight
        assert weight is not None  # watch() saw to it
        groups, rows, columns = product_shape(weight)
        missing = seen.missing.get(weight.tensor)
        if state is None:
            given = seen.weights[weight.tensor]
            state = {"sum": torch.zeros(groups, columns, rows, dtype=torch.float64, device=given.device)}
        if missing is not None:
            x, m = (single_or_double(v.reshape(-1, v.shape[-1])) for v in (seen.inputs[weight.tensor], missing))
            state["sum"] += x.mT @ m
        return state

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The accumulator itself."""
        return state["sum"]

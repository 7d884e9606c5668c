"""What the vectors on an axis have to do with each other, as those who read it see them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.sums import added
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch
from pomona.vocabulary.sites import Place, Turning


@dataclass(frozen=True)
class StreamGram:
    """Second moment of the vectors that are read on an axis that can be turned, taken together over all places: float64 of
    shape (units, units).

    Vectors are looked at before the scale and the shift that lie between the axis and a reader, with mean square 1: every place
    and every token counts the same, however long its vector is. Where a scale is zero the readers see nothing, and neither does
    this.
    Multiplied batch by batch in float32 (float64 where the model is), added in float64; memory is units squared.
    """

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """One reader at each place, with the vectors before it; raises InputError where the axis cannot be turned."""
        places = turning_of(site).places
        vectors = (name for place in places for name in (place.scale, place.shift) if name is not None)
        return Watch(inputs=frozenset(place.readers[0][0] for place in places), grads=frozenset(vectors))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        sums = [self._gram(place, seen) for place in turning_of(site).places]
        return added(
            state, {"sum": torch.stack([gram for gram, _ in sums]).sum(0), "rows": torch.stack([n for _, n in sums]).sum()}
        )

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over all rows; its trace is the number of units."""
        return state["sum"] / state["rows"]

    def _gram(self, place: Place, seen: Seen) -> tuple[Tensor, Tensor]:
        x = seen.inputs[place.readers[0][0]]
        x = x.reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
        if place.shift is not None:
            x = x - seen.weights[place.shift].to(x)
        if place.scale is not None:
            scale = seen.weights[place.scale].to(x)
            x = torch.where(scale == 0, 0.0, x / scale)
        size = x.square().mean(1, keepdim=True)
        rows = x[size[:, 0] > 0] * size[size > 0].rsqrt()[:, None]
        return (rows.mT @ rows).double(), torch.tensor(float(len(rows)), dtype=torch.float64, device=x.device)


def turning_of(site: Site) -> Turning:
    """How an axis can be turned; raises InputError that says why it cannot."""
    turning = site.axis.turning if site.axis is not None else "it is no axis"
    if isinstance(turning, Turning):
        return turning
    raise InputError(
        f"{site.name} cannot be turned ({turning}); this method is for residual streams that only norms lie on: keep it out, "
        "or prune heads and neurons."
    )

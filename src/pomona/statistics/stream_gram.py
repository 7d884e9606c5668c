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
    """Second moment of the vectors that are read on an axis that can be turned: float64 of shape (units, units), the mean over
    all places, or, with `apart`, of (places, units, units).

    Vectors are looked at before the scale and the shift that lie between the axis and a reader, with mean square 1: every place
    and every token counts the same, however long its vector is. Where a scale is zero the readers see nothing, and neither does
    this.

    Multiplied batch by batch in float32 (float64 where the model is), added in float64; memory is units squared, for each place
    where they are apart.
    """

    apart: bool = False
    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """One reader at each place, with the vectors before it; raises InputError where the axis cannot be turned."""
        places = turning_of(site).places
        vectors = (name for place in places for name in (place.scale, place.shift) if name is not None)
        return Watch(inputs=frozenset(place.readers[0][0] for place in places), grads=frozenset(vectors))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        for number, place in enumerate(turning_of(site).places):
            key = number if self.apart else 0
            gram, rows = self._gram(place, seen)
            state = {**(state or {}), **added(_only(state, key), {f"{key}/sum": gram, f"{key}/rows": rows})}
        assert state is not None  # an axis that can be turned is read somewhere
        return state

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """Means over rows; the trace of each is the number of units."""
        means = [state[f"{key}/sum"] / state[f"{key}/rows"].clamp(min=1) for key in range(len(state) // 2)]
        return torch.stack(means) if self.apart else means[0]

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


def _only(state: State | None, key: int) -> State | None:
    """The sums of one place, where there are any yet."""
    own = {name: value for name, value in (state or {}).items() if name.startswith(f"{key}/")}
    return own or None


def turning_of(site: Site) -> Turning:
    """How an axis can be turned; raises InputError that says why it cannot."""
    turning = site.axis.turning if site.axis is not None else "it is no axis"
    if isinstance(turning, Turning):
        return turning
    raise InputError(
        f"{site.name} cannot be turned ({turning}); this method is for residual streams that only norms lie on: keep it out, "
        "or prune heads and neurons."
    )

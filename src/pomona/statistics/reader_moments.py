"""The mean and the variance of everything that the readers of an axis multiply."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.input_moments import InputMoments
from pomona.statistics.readers import inputs, readers
from pomona.vocabulary import InputError, Member, Probe, Seen, Site, State, Watch
from pomona.vocabulary.layout import product_shape


@dataclass(frozen=True)
class ReaderMoments:
    """`InputMoments` of each weight that reads the axis: float64 of shape (2, columns of all readers). For axis sites.

    `apart` tells one reader from the next.
    """

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """What the readers receive; raises InputError where a reader is neither a linear nor a convolution weight."""
        for reader in readers(site):
            if reader.weight is None or reader.weight.kind not in ("linear", "conv"):
                raise InputError(
                    f"{reader.tensor} is neither a linear nor a convolution weight, so its inputs are unknown; skip it."
                )
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add the sums of one batch, reader by reader."""
        found: dict[str, Tensor] = {}
        for number, reader in enumerate(readers(site)):
            own = None if state is None else _own(state, number)
            more = InputMoments(self.probe).update(own, _alone(site, reader), seen)
            found |= {f"{number}/{name}": value for name, value in more.items()}
        return found

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return {name: value + b[name] for name, value in a.items()}

    def value(self, state: State, site: Site) -> Tensor:
        """The moments of all readers, one after the other."""
        made = [
            InputMoments(self.probe).value(_own(state, number), _alone(site, reader))
            for number, reader in enumerate(readers(site))
        ]
        return torch.cat([moments.flatten(1) for moments in made], dim=1)


def apart(moments: Tensor, site: Site) -> list[tuple[Member, Tensor, Tensor]]:
    """(reader, mean, variance) for each reader; (groups, columns) as in `layout.to_product`."""
    found = readers(site)
    shapes = [product_shape(reader.weight)[::2] for reader in found if reader.weight is not None]
    pieces = torch.split(moments, [groups * columns for groups, columns in shapes], dim=1)
    return [
        (reader, piece[0].reshape(shape), piece[1].reshape(shape))
        for reader, piece, shape in zip(found, pieces, shapes, strict=True)
    ]


def _alone(site: Site, reader: Member) -> Site:
    return replace(site, weight=reader.weight)


def _own(state: State, number: int) -> State:
    return {name.removeprefix(f"{number}/"): value for name, value in state.items() if name.startswith(f"{number}/")}

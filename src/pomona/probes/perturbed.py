"""The loss of the model without some of its units, again and again, by forward passes alone (Dery et al., Bonsai, 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from struct import pack
from typing import ClassVar
from zlib import crc32

import torch
from torch import Tensor, nn

from pomona.probes.forward import Forward
from pomona.probes.losses import loss_of
from pomona.statistics.readers import by_unit, inputs, readers
from pomona.vocabulary import Batch, InputError, Loss, Member, Requirement, Seen, Site, Trials, Watch, evaluating, generator


@dataclass(frozen=True)
class Perturbed:
    """Pairs of passes, each without a random part of the units that are thought least of, a part that the other pass keeps.

    At every site the units of least `worth`, twice a `share` of the living and two more, are candidates; the first of a pair
    drops half of them on average, those of less worth sooner, the second drops the others. So a candidate is missing from
    exactly half of all passes, and what the batch itself does to the loss cancels in a pair. The paper drops the same number
    at a site in all passes, which leaves it unknown how sites compare; here the number is random. `worth` is the mean size of
    what a unit hands on times the norm of what it is read through (the paper's default prior), on the same batch, and masks are
    drawn anew for every batch. There are `pairs` for each batch; they cost two forward passes each, and no gradients.
    """

    pairs: int = 100
    share: float = 0.05
    seed: int = 0

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data", "labels", "loss"})
    per_example: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.pairs < 1 or not 0 < self.share <= 1:
            raise InputError(
                f"Trials need at least one pair and a share of the units in (0, 1]; got {self.pairs}, {self.share:g}."
            )

    @torch.no_grad()
    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """The trials of one batch; the weights are afterwards what they were, to the bit, even on error."""
        sites = sorted(watch.sites, key=lambda site: site.name)
        whole = Watch.joined(inputs(site) for site in sites)
        seen = Forward().run(model, batch.unlabelled, None, whole)
        worth = {site.name: _worth(site, seen) for site in sites}
        with evaluating(model):
            # What is drawn depends on the batch and on how far the model is pruned, but on nothing else.
            salt = crc32(pack("d", float(loss_of(model, batch, loss))))
            random = generator(self.seed, salt)
            signs = {name: drawn(value.cpu(), self.share, self.pairs, random) for name, value in worth.items()}
            with _leaving(model, sites) as leave:
                losses = [
                    [loss_of(leave({name: sign[pair] == gone for name, sign in signs.items()}), batch, loss) for gone in (-1, 1)]
                    for pair in range(self.pairs)
                ]
        first, second = torch.tensor(losses, dtype=torch.float64).T
        return Seen(seen.examples, trials=Trials(signs, second - first, worth))


def drawn(worth: Tensor, share: float, pairs: int, random: torch.Generator) -> Tensor:
    """int8 (pairs, units): -1 where the first of a pair drops a candidate, +1 where the second does, 0 elsewhere.

    Units worth nothing are dead and no candidates; one unit always stays.
    """
    living = int((worth > 0).sum())
    number = max(0, min(2 * (int(share * living) + 1), living - 1))
    candidates = worth.masked_fill(worth <= 0, torch.inf).argsort(stable=True)[:number]
    less = (worth.max() - worth[candidates]).clamp_min(torch.finfo(worth.dtype).tiny)
    # The largest of log-weights plus Gumbel noise are a draw without replacement by these weights.
    noise = torch.rand(pairs, number, generator=random, dtype=worth.dtype).clamp_min(1e-300).log().neg().log().neg()
    order = (less.log() + noise).argsort(dim=1, descending=True).argsort(dim=1)
    drops = (torch.rand(pairs, number, generator=random) < 0.5).sum(1, keepdim=True)
    signs = torch.zeros(pairs, len(worth), dtype=torch.int8)
    signs[:, candidates] = torch.where(order < drops, -1, 1).to(torch.int8)
    return signs


def _worth(site: Site, seen: Seen) -> Tensor:
    sizes = [z.double().abs().mean((0, 2)) for z in by_unit(site, seen, seen.inputs)]
    norms = [member.rows(seen.weights[member.tensor].double()).norm(dim=1) for member in readers(site)]
    return torch.stack([size * norm for size, norm in zip(sizes, norms, strict=True)]).sum(0)


class _Leave:
    """Makes units leave for one pass: what reads them is zero there."""

    def __init__(self, model: nn.Module, members: Mapping[str, Sequence[Member]]) -> None:
        self.model, self.members = model, members
        self.weights = {m.tensor: model.get_parameter(m.tensor) for found in members.values() for m in found}
        self.whole = {name: weight.clone() for name, weight in self.weights.items()}

    def __call__(self, gone: Mapping[str, Tensor]) -> nn.Module:
        self.back()
        for name, which in gone.items():
            units = which.nonzero().flatten()
            for member in self.members[name]:
                weight = self.weights[member.tensor]
                places = units if member.index is None else member.index[units].flatten()
                weight.index_fill_(member.dim or 0, places.to(weight.device), 0)
        return self.model

    def back(self) -> None:
        """All are there again."""
        for name, weight in self.weights.items():
            weight.copy_(self.whole[name])


@contextmanager
def _leaving(model: nn.Module, sites: Sequence[Site]) -> Iterator[_Leave]:
    leave = _Leave(model, {site.name: readers(site) for site in sites})
    try:
        yield leave
    finally:
        leave.back()

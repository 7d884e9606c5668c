"""What each unit is worth to the loss, told from trials without many of them (Dery et al., Bonsai, 2024)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.perturbed import Perturbed
from pomona.statistics.readers import readers
from pomona.statistics.sums import count
from pomona.vocabulary import Probe, Seen, Site, State, Watch

_RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # of the mean square of a pair's signs


@dataclass(frozen=True)
class TrialRegression:
    """The coefficients by which units, all sites taken together, explain the gains of the trials: float64 (units,).

    Loss is taken to be a sum over the units that are gone. Units that were never tried come above all that were, by their prior
    worth; units that hand nothing on come below all. Memory: a byte for each unit and pair.
    """

    probe: Probe = field(default_factory=Perturbed)

    def watch(self, site: Site) -> Watch:
        """The site's units; raises InputError where no weight reads them."""
        readers(site)
        return Watch(sites=frozenset({site}))

    def alike(self, site: Site, seen: Seen) -> Hashable:
        """There is one regression, over all sites."""
        return "all"

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add the trials of one batch."""
        assert seen.trials is not None  # the probe's
        more = {"gains": seen.trials.gains, "passes": count(1)}
        more |= {f"signs/{name}": signs for name, signs in seen.trials.signs.items()}
        more |= {f"worth/{name}": worth for name, worth in seen.trials.worth.items()}
        return more if state is None else self.merge(state, more)

    def merge(self, a: State, b: State) -> State:
        """The trials of both; the worth before them adds up."""
        rows = ("gains", "signs/")
        return {key: torch.cat([a[key], b[key]]) if key.startswith(rows) else a[key] + b[key] for key in a}

    def value(self, state: State, site: Site) -> Tensor:
        """The site's part of the one regression."""
        names = [key.removeprefix("worth/") for key in state if key.startswith("worth/")]
        priors = [state[f"worth/{name}"] / state["passes"] for name in names]
        prior = torch.cat([p / p.mean().clamp_min(torch.finfo(p.dtype).tiny) for p in priors])  # each relative to its site
        signs = torch.cat([state[f"signs/{name}"] for name in names], 1).to(prior.device)
        found = completed(coefficients(signs, state["gains"].to(prior.device), prior), signs.any(0), prior)
        return dict(zip(names, torch.split(found, [len(p) for p in priors]), strict=True))[site.name]


def coefficients(signs: Tensor, gains: Tensor, prior: Tensor) -> Tensor:
    """(units,) float64 c with gains = signs c, as near as pairs can tell: ridge towards a multiple of `prior`, solved.

    The multiple is fitted first, and not negative. The ridge is the one by which pairs that were left out are ranked best, by
    Kendall's tau (ties: by their errors); where none ranks them better than chance, the prior alone speaks. The paper descends
    from the prior, with other penalties, and cross-validates by the same tau. `signs` (pairs, units), `gains` (pairs,).
    """
    x, y = signs.double(), gains.double()
    line = x @ prior
    slope = ((line @ y) / line.square().sum().clamp_min(torch.finfo(y.dtype).tiny)).clamp_min(0)
    rest = y - slope * line
    values, vectors = torch.linalg.eigh(x @ x.T)
    best, found = (0.0, 0.0), None
    for ridge in _RIDGES:
        damped = values.clamp_min(0) + ridge * values.mean().clamp_min(torch.finfo(y.dtype).tiny)
        weights = vectors @ ((vectors.T @ rest) / damped)
        spared = (vectors.square() / damped).sum(1)
        errors = weights / spared  # of what all others predict for a pair
        if (quality := (kendall(y - errors, y), -float(errors.square().sum()))) > best:
            best, found = quality, weights
    if found is None:
        return prior * (slope if bool(slope > 0) else y.abs().mean())
    explained: Tensor = slope * prior + x.T @ found
    return explained


def kendall(a: Tensor, b: Tensor) -> float:
    """The share of pairs of entries in the same order, less that in the opposite one; 0 for fewer than two entries.

    >>> kendall(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    if len(a) < 2:
        return 0.0
    order = torch.sign(a[:, None] - a) * torch.sign(b[:, None] - b)
    return float(order.double().sum() / (len(a) * (len(a) - 1)))


def completed(found: Tensor, tried: Tensor, prior: Tensor) -> Tensor:
    """`found` where units were `tried`, above that, by `prior`, where not, and below it where `prior` is 0: the dead."""
    if not tried.any():
        return prior
    low, high = found[tried].min(), found[tried].max()
    step = (high - low).clamp_min(torch.finfo(found.dtype).tiny)
    above = high + step * (1 + prior / prior.max().clamp_min(torch.finfo(prior.dtype).tiny))
    return torch.where(prior <= 0, low - step, torch.where(tried, found, above))

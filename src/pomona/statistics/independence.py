"""How much of what a layer says would be lost with one of its units (Sui et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch

_AT_ONCE = 1 << 23  # float64 numbers in a batch of Gram matrices: 64 MB


@dataclass(frozen=True)
class Independence:
    """Mean over examples and readers of ||A||_* - ||A without row i||_*, A: units by positions. For axis sites.

    Float64 of shape (units,), never negative. A unit that the others can nearly make up loses little. Where an example
    shows a unit at one position only (plain networks; an extension of the paper) the examples are the columns, all data in
    one A, and the value is divided by the root of their number; readers like that count only where there are no others.
    Cost: for each example as many eigenvalue problems as units, of the smaller side of A.
    """

    probe: Probe = field(default_factory=lambda: Forward(whole=True))

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        found = [z.double() for z in by_unit(site, seen, seen.inputs)]
        spread = [z for z in found if z.shape[2] > 1]
        for z in spread:
            losses = torch.stack([loss(example) for example in z])
            state = added(state, {"sum": losses.sum(0), "number": count(len(z))})
        if not spread:
            grams = torch.stack([z[:, :, 0].T @ z[:, :, 0] for z in found])
            state = added(state, {"grams": grams, "number": count(seen.examples)})
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean."""
        if "grams" in state:
            return torch.stack([_loss_of_gram(gram) for gram in state["grams"]]).mean(0) / state["number"].sqrt()
        return state["sum"] / state["number"]


def loss(rows: Tensor) -> Tensor:
    """(units, positions) float64 -> (units,): what the nuclear norm loses when a row becomes zero.

    Singular values are roots of eigenvalues of the smaller Gram matrix. Zeroing row a leaves A A^T without a row and a
    column, or A^T A - a a^T: exact either way, to the 1e-8 of the norm that squaring leaves of float64.
    """
    if len(rows) <= rows.shape[1]:
        return _loss_of_gram(rows @ rows.T)
    gram = rows.T @ rows
    rests = (_nuclear(gram - a.unsqueeze(2) * a.unsqueeze(1)) for a in _pieces(rows, gram.numel()))
    return (_nuclear(gram) - torch.cat(list(rests))).clamp_min(0.0)


def _loss_of_gram(gram: Tensor) -> Tensor:
    """(units, units) -> (units,): the same from A A^T, of which a zeroed row takes a row and a column."""
    without = ~torch.eye(len(gram), dtype=torch.bool, device=gram.device)
    rests = (_nuclear(gram * stay.unsqueeze(2) * stay.unsqueeze(1)) for stay in _pieces(without, gram.numel()))
    return (_nuclear(gram) - torch.cat(list(rests))).clamp_min(0.0)


def _pieces(rows: Tensor, each: int) -> Iterator[Tensor]:
    return iter(torch.split(rows, max(1, _AT_ONCE // each)))


def _nuclear(grams: Tensor) -> Tensor:
    """Nuclear norms of the matrices that these are the Gram matrices of; what rounding makes negative counts as 0."""
    spectrum: Tensor = torch.linalg.eigvalsh(grams)
    return spectrum.clamp_min(0.0).sqrt().sum(-1)

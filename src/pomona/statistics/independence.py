"""How much of what a layer says would be lost with one of its units (Sui et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch

_STEP = 0.5  # of the quadrature in log s: the nearest poles are pi away, so that its error is about exp(-2 pi^2 / step)


@dataclass(frozen=True)
class Independence:
    """Mean over examples and readers of ||A||_* - ||A without row i||_*, A: units by positions. For axis sites.

    Float64 of shape (units,), never negative. A unit that the others can nearly make up loses little. Where an example
    shows a unit at one position only (plain networks; an extension of the paper) the examples are the columns, all data in
    one A, and the value is divided by the root of their number; readers like that count only where there are no others.
    Padding tokens are columns like others. Cost: for each example one eigenvalue problem of the smaller side of A.
    """

    probe: Probe = field(default_factory=lambda: Forward(whole=True))

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        found = by_unit(site, seen, seen.inputs)
        spread = [z for z in found if z.shape[2] > 1]
        for z in spread:
            losses = torch.stack([loss(example.double()) for example in z])
            state = added(state, {"sum": losses.sum(0), "number": count(len(z))})
        if not spread:
            columns = [z[:, :, 0].double() for z in found]
            grams = torch.stack([x.T @ x for x in columns])
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

    Not a decomposition for every unit, but one for all. With A A^T = Q diag(lam) Q^T, zeroing row i takes a row and a column
    from it, and det(without + s) / det(A A^T + s) is the i-th diagonal element of (A A^T + s)^-1. Its logarithm's derivative
    gives the traces of the resolvents, and sqrt(x) = 1/pi * integral of x / (x + s) ds / sqrt(s) the norms:

        loss_i = 1/pi * integral of [sum_j q_ij^2 lam_j / (lam_j + s)^2] / [sum_j q_ij^2 / (lam_j + s)] ds / sqrt(s)

    In log s the trapezoidal rule has converged at the steps taken; all terms are positive, so nothing cancels. Accurate to
    the 1e-8 of the largest singular value that squaring leaves of float64.
    """
    if len(rows) <= rows.shape[1]:
        return _loss_of_gram(rows @ rows.T)
    spectrum, v = torch.linalg.eigh(rows.T @ rows)  # the smaller side; what it lacks of the other has lam = 0
    living = spectrum > spectrum[-1] * torch.finfo(rows.dtype).eps * len(spectrum)
    shares = (rows @ v[:, living]).square() / spectrum[living]
    rest = (1 - shares.sum(1, keepdim=True)).clamp_min(0.0)
    return _loss(torch.cat([spectrum[living], spectrum.new_zeros(1)]), torch.cat([shares, rest], dim=1))


def _loss_of_gram(gram: Tensor) -> Tensor:
    """(units, units) -> (units,): the same from A A^T."""
    spectrum, q = torch.linalg.eigh(gram)
    return _loss(spectrum.clamp_min(0.0), q.square())


def _loss(spectrum: Tensor, shares: Tensor) -> Tensor:
    """The spectrum lam (n,) and shares q^2 (units, n) -> (units,)."""
    largest = spectrum.max()
    if not largest > 0:
        return torch.zeros_like(shares[:, 0])
    lam = spectrum / largest
    s = torch.exp(torch.arange(-42.0, 42.0, _STEP, dtype=lam.dtype, device=lam.device))
    resolvent = 1 / (lam.unsqueeze(1) + s)  # (n, nodes)
    ratio = (shares @ (lam.unsqueeze(1) * resolvent.square())) / (shares @ resolvent)
    return ratio @ s.sqrt() * (_STEP / pi) * largest.sqrt()

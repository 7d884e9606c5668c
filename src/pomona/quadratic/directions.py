"""Principal directions of vectors with mean square 1, and the isometry onto so many of them (SliceGPT, Ashkboos et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor


def directions(gram: Tensor, centred: bool = False) -> tuple[Tensor, Tensor]:
    """(energies (d,), directions (d, d) as columns) of a second moment (d, d), the largest first; float64.

    With `centred` the first direction is that of the vector of ones, whatever its energy, and the others are at right angles to
    it.
    Signs are such that the largest entry of a direction is positive.
    """
    gram = gram.double()
    if not centred:
        energies, found = torch.linalg.eigh((gram + gram.mT) / 2)
        return energies.flip(0).clamp(min=0), _signed(found.flip(1))
    rest = helmert(len(gram), gram.device)  # (d, d - 1)
    energies, found = directions(rest.mT @ gram @ rest)
    ones = torch.full((len(gram), 1), len(gram) ** -0.5, dtype=torch.float64, device=gram.device)
    return torch.cat([(ones.mT @ gram @ ones).flatten(), energies]), torch.cat([ones, rest @ found], 1)


def isometry(found: Tensor, keep: int, centred: bool = False) -> Tensor:
    """(d, keep) with orthonormal columns onto the first `keep` of the directions.

    With `centred` it takes the vector of ones to that of the smaller space, so that a mean and a variance over the entries are
    there what they were.
    """
    if not centred:
        return found[:, :keep]
    ones = torch.full((1, keep), keep**-0.5, dtype=torch.float64, device=found.device)
    return found[:, :1] @ ones + found[:, 1:keep] @ helmert(keep, found.device).mT


def moment(grams: Tensor) -> Tensor:
    """(d, d): the mean of the second moments of several places, (places, d, d), or the one that there is."""
    return grams.mean(0) if grams.ndim == 3 else grams


def way_back(gram: Tensor, basis: Tensor, damping: float) -> Tensor:
    """(d, keep): the map by which vectors of this second moment are told best from their parts along the `basis` (d, keep).

    Best in the mean square, whatever reads them; `damping`, in mean squares of a part, pulls it towards the basis itself.
    """
    parts = basis.mT @ gram @ basis
    pull = damping * parts.diagonal().mean()
    back: Tensor = torch.linalg.solve(parts + pull * torch.eye(len(parts)).to(parts), (gram @ basis + pull * basis).mT)
    return back.mT


def helmert(size: int, device: torch.device | str = "cpu") -> Tensor:
    """(size, size - 1): orthonormal columns at right angles to the vector of ones; float64."""
    number = torch.arange(1, size, dtype=torch.float64, device=device)
    place = torch.arange(size, dtype=torch.float64, device=device)[:, None]
    return ((place < number).double() - number * (place == number)) / (number * (number + 1)).sqrt()


def _signed(found: Tensor) -> Tensor:
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return found * torch.where(largest < 0, -1.0, 1.0)

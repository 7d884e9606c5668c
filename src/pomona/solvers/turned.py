"""Turned: an axis is turned onto its principal directions, of which the first stay (SliceGPT, Ashkboos et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.quadratic.directions import directions, isometry, moment, way_back
from pomona.statistics.stream_gram import StreamGram, turning_of
from pomona.vocabulary import Decision, InputError, Statistic, View
from pomona.vocabulary.sites import Place


@dataclass(frozen=True)
class Turned:
    """As many units as the proposal keeps; they carry the first principal directions of the axis, in this order.

    With Q (units, kept) the directions: what writes the axis writes Q^T of it, what reads it reads through Q; scales of norms go
    into the readers first and become 1. Writers shrink by sqrt(kept / units) and readers grow by as much, so that norms, which
    divide by the root of a mean over fewer entries, and their epsilons find what they found. Before anything is cut this is the
    same model: what is lost are the directions that leave.

    The paper turns every block by its own matrix and multiplies the skip connections by Q_l^T Q_(l+1), which makes its models of
    a class of their own and costs two more products a block. Here all places share one Q, of the moments of all of them: a plain
    model of a smaller width comes out. The paper makes LayerNorms RMSNorms; here the mean keeps a direction of its own, and they
    stay. The moments are those of the dense model. For axes that are whole so far: one round.

    With `refit` every reader is fitted anew, by least squares on what the dense model gives it, to what it read before: what left
    is told from what stayed, as far as it can be at that place. That is not in the paper, where directions of each block's own
    leave nothing to be told. It takes the moments of every place: units squared for each. `damping` of the fit is in mean squares
    of a direction that stays.
    """

    refit: bool = False
    damping: float = 0.01

    parts_ties: ClassVar[bool] = True  # tied embeddings become two: a norm's scale goes into one of them

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The moments of the stream, of each place where readers are fitted."""
        return (StreamGram(apart=self.refit),)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """Every tensor of the axis anew; nothing changes where everyone stays or nobody does."""
        turning = turning_of(view.site)
        if turning.tied:
            raise InputError(f"{turning.tied[0]} is tied: it writes {view.site.name} and reads it behind a scale; make it two.")
        if not view.alive.all():
            raise InputError(f"{view.site.name} was cut before; an axis is turned once, so use a schedule of one round.")
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        grams = view.stats[StreamGram(apart=self.refit)]
        _, found = directions(moment(grams), turning.centred)
        count, keep = int(proposal.sum()), proposal.to(found.device)
        basis, back = isometry(found, count, turning.centred), None
        if self.refit:
            fits = (_fit(place, gram, basis, self.damping) for place, gram in zip(turning.places, grams, strict=True))
            back = [_among(fit, keep) for fit in fits]
        return Decision(proposal, turned(view, _among(basis, keep), (count / len(found)) ** 0.5, back))


def _fit(place: Place, gram: Tensor, basis: Tensor, damping: float) -> Tensor:
    """What a place reads through. A norm makes what stays as long as all was, so less is right by the root of its share."""
    normed = place.scale is not None or place.shift is not None
    left = (basis.mT @ gram @ basis).trace() / gram.trace() if normed else gram.new_ones(())
    return way_back(gram, basis, damping) * left.sqrt()


def _among(basis: Tensor, keep: Tensor) -> Tensor:
    """The columns at the places of those that stay, among zeros."""
    made = basis.new_zeros(len(basis), len(keep))
    made[:, keep] = basis
    return made


class _Tensors:
    """The tensors as they become, one at a time in float64."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.made: dict[str, Tensor] = {}

    def __contains__(self, name: str | None) -> bool:
        return name in self.view.tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.made.get(name, self.view.tensors[name]).detach().double()

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.made[name] = value.to(self.view.tensors[name].dtype)

    def before(self, name: str | None) -> Tensor | None:
        """As it was."""
        return None if name is None else self.view.tensors[name].detach().double()


def turned(view: View, basis: Tensor, shrink: float = 1.0, back: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
    """Every tensor of an axis once it is turned by `basis` (units, units), whose columns for those that leave are zero.

    `shrink` is the root of the share of those that stay. With an orthogonal matrix, which for axes under a LayerNorm must leave
    the vector of ones alone, the model does what it did. `back` is what the readers of each place read through (None: the basis).
    """
    turning = turning_of(view.site)
    tensors = _Tensors(view)
    for tensor, dim in turning.writers:
        tensors[tensor] = _times(tensors[tensor], dim, basis * shrink)
    for number, place in enumerate(turning.places):
        through = basis if back is None else back[number]
        shift, scale = _shift(tensors, place), tensors.before(place.scale)
        for tensor, dim in place.readers:
            weight = tensors[tensor] if scale is None else (tensors[tensor].movedim(dim, -1) * scale).movedim(-1, dim)
            tensors[tensor] = _times(weight, dim, through / shrink)
        if place.scale is not None:
            tensors[place.scale] = basis.new_ones(len(basis))
        if place.shift is not None and shift is not None:
            tensors[place.shift] = torch.linalg.pinv(through) @ shift * shrink
    return tensors.made


def _shift(tensors: _Tensors, place: Place) -> Tensor | None:
    """The shift as it would be before the scale, (units,); where all readers have biases it goes into them, and zeros stay."""
    shift, scale = tensors.before(place.shift), tensors.before(place.scale)
    if shift is None or place.shift is None:
        return None
    weights = {m.tensor: m.weight for m in tensors.view.site.members}
    biases = [
        (tensor, dim, weight.bias) for tensor, dim in place.readers if (weight := weights[tensor]) and weight.bias in tensors
    ]
    if len(biases) == len(place.readers):
        for tensor, dim, bias in biases:
            assert bias is not None  # it is among the tensors
            tensors[bias] = tensors[bias] + tensors[tensor].movedim(dim, -1) @ shift
        return shift * 0
    if scale is not None and bool(((scale == 0) & (shift != 0)).any()):
        raise InputError(f"{place.scale} has zeros where {place.shift} has none, and a reader has no bias; prune something else.")
    return shift if scale is None else (shift / scale).nan_to_num(0.0)


def _times(tensor: Tensor, dim: int, matrix: Tensor) -> Tensor:
    return (tensor.movedim(dim, -1) @ matrix.to(tensor.device)).movedim(-1, dim).contiguous()

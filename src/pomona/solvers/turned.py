"""Turned: an axis is turned onto its principal directions, of which the first stay (SliceGPT, Ashkboos et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.quadratic.directions import directions, isometry
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
    """

    needs: ClassVar[tuple[Statistic, ...]] = (StreamGram(),)
    parts_ties: ClassVar[bool] = True  # tied embeddings become two: a norm's scale goes into one of them

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """Every tensor of the axis anew; nothing changes where everyone stays or nobody does."""
        turning = turning_of(view.site)
        if turning.tied:
            raise InputError(f"{turning.tied[0]} is tied: it writes {view.site.name} and reads it behind a scale; make it two.")
        if not view.alive.all():
            raise InputError(f"{view.site.name} was cut before; an axis is turned once, so use a schedule of one round.")
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        _, found = directions(view.stats[StreamGram()], turning.centred)
        count = int(proposal.sum())
        basis = found.new_zeros(len(found), len(found))
        basis[:, proposal.to(found.device)] = isometry(found, count, turning.centred)
        return Decision(proposal, turned(view, basis, (count / len(found)) ** 0.5))


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


def turned(view: View, basis: Tensor, shrink: float = 1.0) -> dict[str, Tensor]:
    """Every tensor of an axis once it is turned by `basis` (units, units), whose columns for those that leave are zero.

    `shrink` is the root of the share of those that stay. With an orthogonal matrix, which for axes under a LayerNorm must leave
    the vector of ones alone, the model does what it did.
    """
    turning = turning_of(view.site)
    tensors = _Tensors(view)
    for tensor, dim in turning.writers:
        tensors[tensor] = _times(tensors[tensor], dim, basis * shrink)
    for place in turning.places:
        shift, scale = _shift(tensors, place), tensors.before(place.scale)
        for tensor, dim in place.readers:
            weight = tensors[tensor] if scale is None else (tensors[tensor].movedim(dim, -1) * scale).movedim(-1, dim)
            tensors[tensor] = _times(weight, dim, basis / shrink)
        if place.scale is not None:
            tensors[place.scale] = basis.new_ones(len(basis))
        if place.shift is not None and shift is not None:
            tensors[place.shift] = shift @ basis * shrink
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

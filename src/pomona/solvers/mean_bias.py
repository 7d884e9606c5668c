"""Mean bias: what leaves goes on as a constant, its mean, in the biases of those who read it (FLAP, An et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.statistics.reader_moments import ReaderMoments, apart
from pomona.vocabulary import Decision, Statistic, View
from pomona.vocabulary.layout import to_product

_NO_BIAS = "Some weights that read pruned units have no bias, so the mean of what they lost is not made up for."


@dataclass(frozen=True)
class MeanBias:
    """b + sum of W_:,j E[x_j] over the columns j that leave, for every reader of an axis; the proposal as it is.

    Any axis will do: heads, neurons, channels of a convolution. Readers without a bias are given one before anything is decided,
    as the original does; where `adds_biases` is off or a module has no room for one, they stay as they are and the notes say so.
    In a run block by block means are of what a block reads from those that are already pruned; in the paper, from dense ones.
    """

    adds_biases: bool = True

    needs: ClassVar[tuple[Statistic, ...]] = (ReaderMoments(),)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The biases, and the readers with zeros where the units leave, lest another site move them again."""
        if proposal.all():
            return Decision(proposal)
        masks = view.structure.expand(view.site, proposal)
        made: dict[str, Tensor] = {}
        notes: tuple[str, ...] = ()
        for reader, mean, _ in apart(view.stats[ReaderMoments()], view.site):
            assert reader.weight is not None  # the statistic saw to it
            value = made.get(reader.tensor, view.tensors[reader.tensor]).detach()
            gone = value.masked_fill(masks[reader.tensor], 0)
            made[reader.tensor] = value - gone
            name = reader.weight.bias
            if name is None:
                notes = (_NO_BIAS,)
                continue
            lost = to_product(reader.weight, gone).double() @ mean[..., None]  # (groups, rows, 1)
            bias = made.get(name, view.tensors[name]).detach()
            made[name] = (bias.double() + lost.reshape(bias.shape)).to(bias.dtype)
        return Decision(proposal, made, notes)

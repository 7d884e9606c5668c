"""How far a block is from what the dense one gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pomona.probes.recording import tokens
from pomona.training.objectives import represented
from pomona.vocabulary import Batch, InputError, evaluating
from pomona.vocabulary.beside import Beside


@torch.no_grad()
def taught(each: Beside) -> Iterator[Batch]:
    """The calls of the pruned block; their targets are what the dense one gives."""
    for own, whole in each.calls:
        with evaluating(each.dense):
            target = represented(each.dense(*whole.args, **whole.kwargs))
        yield Batch(own.args, own.kwargs, target, own.mask)


def distance(block: nn.Module, batch: Batch) -> Tensor:
    """The mean over visible tokens of ||given - wanted||^2 / ||wanted||^2, in evaluation mode: dropout would teach it noise.

    Raises InputError where the two are not of one shape.
    """
    with evaluating(block):
        given = represented(block(*batch.args, **batch.kwargs))
    if given.shape != batch.target.shape:
        raise InputError(
            f"The pruned blocks give {given.shape[-1]} numbers a token and the dense ones {batch.target.shape[-1]}, which cannot "
            "be compared; use distil."
        )
    given, wanted = (tokens(x, batch.visible).float() for x in (given, batch.target))
    energy = wanted.square().sum(-1)
    return ((given - wanted).square().sum(-1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)).mean()


@torch.no_grad()
def error(block: nn.Module, data: Sequence[Batch]) -> float:
    """The mean distance over the batches."""
    return sum(float(distance(block, batch)) for batch in data) / len(data)

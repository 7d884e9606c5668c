"""How far a block is from what the dense one gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pomona.probes.recording import tokens
from pomona.training.objectives import represented
from pomona.vocabulary import Batch, evaluating
from pomona.vocabulary.beside import Beside


@torch.no_grad()
def taught(each: Beside) -> Iterator[Batch]:
    """The calls of the pruned block; their targets are what the dense one gives."""
    for own, whole in each.calls:
        with evaluating(each.dense):
            target = represented(each.dense(*whole.args, **whole.kwargs))
        yield Batch(own.args, own.kwargs, target, own.mask)


def distance(block: nn.Module, batch: Batch) -> Tensor:
    """The mean over visible tokens of ||given - wanted||^2 / ||wanted||^2, in evaluation mode: dropout would teach it noise."""
    with evaluating(block):
        given = represented(block(*batch.args, **batch.kwargs))
    given, wanted = (tokens(x, batch.visible).float() for x in (given, batch.target))
    energy = wanted.square().sum(-1)
    return ((given - wanted).square().sum(-1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)).mean()


@torch.no_grad()
def error(block: nn.Module, data: Sequence[Batch]) -> float:
    """The mean distance over the batches."""
    return sum(float(distance(block, batch)) for batch in data) / len(data)

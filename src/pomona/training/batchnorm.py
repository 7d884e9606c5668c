"""Batch-norm statistics that fit the weights as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pomona.training.batches import of_epoch, onto
from pomona.vocabulary import evaluating


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


@torch.no_grad()
def recalibrate(model: nn.Module, data: Iterable[Any], seed: int = 0) -> int:
    """Reset every batch norm's running statistics and estimate them anew as the plain average over the data.

    Pruning shifts activations, and the old statistics no longer describe them. Nothing else changes, dropout stays off.
    Returns how many batch norms there were; without any the data are not read.
    """
    norms = batch_norms(model)
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    with evaluating(model):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum, norm.training = None, True  # momentum None: the cumulative average
            for batch in of_epoch(data, 0, seed):
                moved = onto(batch, device)
                model(*moved.args, **moved.kwargs)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return len(norms)

"""Mean squared error of regressors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from pomona.evaluate.outputs import answer, batches, predictions
from pomona.evaluate.tally import Meter, Tally
from pomona.vocabulary import InputError


def mean_squared_error(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Mean over all target values of (prediction - target)^2, summed in float64; (n,) targets fit (n, 1) predictions."""
    total, values, examples = 0.0, 0, 0
    for batch in batches(data):
        given = predictions(answer(model, batch))
        if not isinstance(batch.target, Tensor) or batch.target.numel() != given.numel() or len(batch.target) != len(given):
            shape = tuple(batch.target.shape) if isinstance(batch.target, Tensor) else None
            raise InputError(f"Targets of shape {shape} do not fit predictions of shape {tuple(given.shape)}.")
        total += float((given.double() - batch.target.double().view_as(given)).square().sum())
        values, examples = values + given.numel(), examples + len(given)
        meter(1, mse=total / values)
    if not values:
        raise InputError("The data holds no examples; at least one is needed.")
    return Tally(total / values, examples)

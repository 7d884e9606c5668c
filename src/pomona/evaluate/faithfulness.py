"""How far a pruned model follows the dense one: no labels needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from pomona.evaluate.outputs import answer, batches, measuring, predictions
from pomona.evaluate.tally import Meter, Tally
from pomona.vocabulary import InputError


def agreement(model: nn.Module, dense: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Share of predictions whose top choice is the dense model's."""
    return _mean(lambda ours, theirs: (ours.argmax(-1) == theirs.argmax(-1)).double(), model, dense, data, meter)


def divergence(model: nn.Module, dense: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Mean KL(dense || model) in nats between the softmax distributions, in float64."""

    def kl(ours: Tensor, theirs: Tensor) -> Tensor:
        p, q = theirs.double().log_softmax(-1), ours.double().log_softmax(-1)
        return (p.exp() * (p - q)).sum(-1)

    return _mean(kl, model, dense, data, meter)


def _mean(
    compare: Callable[[Tensor, Tensor], Tensor], model: nn.Module, dense: nn.Module, data: Iterable[Any], meter: Meter
) -> Tally:
    """Mean of a comparison over what the models choose between (classes or vocabulary), padding left out."""
    total, count = 0.0, 0
    with measuring(dense):
        for batch in batches(data):
            ours, theirs = (_choices_last(predictions(answer(m, batch))) for m in (model, dense))
            if ours.shape != theirs.shape:
                raise InputError(
                    f"Outputs of shape {tuple(ours.shape)} and {tuple(theirs.shape)} cannot be compared; they must be alike."
                )
            values = compare(ours, theirs)
            mask = batch.kwargs.get("attention_mask")
            if isinstance(mask, Tensor) and mask.shape == values.shape:
                values = values[mask.bool()]
            total, count = total + float(values.sum()), count + values.numel()
            meter(1, mean=total / max(1, count))
    if not count:
        raise InputError("The data holds no examples; at least one is needed.")
    return Tally(total / count, count)


def _choices_last(scores: Tensor) -> Tensor:
    """Maps of class scores, (batch, class, height, width), have their choices in dimension 1; all others have them last."""
    return scores.movedim(1, -1) if scores.dim() == 4 else scores

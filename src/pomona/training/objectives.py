"""What a training step minimises, as a function of the model and a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn

from pomona.probes.losses import check_targets
from pomona.vocabulary import Batch, InputError, Loss

Objective: TypeAlias = Callable[[nn.Module, Batch], Tensor]  # -> scalar


def supervised(loss: Loss | None) -> Objective:
    """The user's loss of (output, target); without one, the `loss` that the model itself returns when it is given labels."""

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        given = batch if loss is None else batch.unlabelled
        output = model(*given.args, **given.kwargs)
        return own_loss(output) if loss is None else loss_of(loss, output, batch)

    return objective


def loss_of(loss: Loss, output: Any, batch: Batch) -> Tensor:
    """The loss of one batch; raises InputError where it has no target, or labels out of range."""
    if batch.target is None:
        raise InputError("Training needs targets; give the data as (input, target) pairs or as dicts with 'labels'.")
    check_targets(output, batch.target)
    return loss(output, batch.target)


def own_loss(output: Any) -> Tensor:
    """The loss that a transformers model returns beside its output; raises InputError where there is none."""
    own: Tensor | None = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if own is None:
        raise InputError(
            "Training needs a loss; give --loss cross-entropy (loss=, a function of (output, target), in Python), "
            "or batches with 'labels'."
        )
    return own


def logits(output: Any) -> Tensor | None:
    """The class scores in a model's output: the output itself if it is a tensor, else its `logits`; None if it has none."""
    found: Tensor | None = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    return found


def represented(output: Any) -> Tensor:
    """The tensor that stands for a model's output: its class scores, its last hidden state, or the first of a tuple."""
    first = output[0] if isinstance(output, (tuple, list)) and output else None
    for tensor in (logits(output), getattr(output, "last_hidden_state", None), first):
        if isinstance(tensor, Tensor):
            return tensor
    raise InputError(f"A model that returns {type(output).__name__} has no tensor to compare; wrap it so that it returns one.")

"""The scalar that a backward pass starts from, with labels checked before they crash inside the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pomona.vocabulary import Batch, InputError, Loss

IGNORED = -100  # the label that torch's losses skip


def loss_of(model: nn.Module, batch: Batch, loss: Loss | None) -> Tensor:
    """The user's loss on the batch, or the one that the model returns; raises InputError where there is neither."""
    classes = getattr(getattr(model, "config", None), "num_labels", None)
    labels = batch.kwargs.get("labels")
    if isinstance(classes, int) and classes > 1 and isinstance(labels, Tensor) and labels.ndim == 1:
        check_labels(labels, classes)
    output = model(*batch.args, **batch.kwargs)
    value = _own_loss(output) if loss is None else _given_loss(output, batch.target, loss)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError("The loss must return one number as a tensor; average it over the batch.")
    if not torch.isfinite(value):
        raise InputError(f"The loss on a batch is {value.item()}; this method needs a finite loss.")
    return value.reshape(())


def _own_loss(output: Any) -> Tensor:
    found = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if found is None:
        raise InputError(
            "This method needs a loss, and the model returns no loss; give one: --loss cross-entropy "
            "(loss=, a function of (output, target), in Python)."
        )
    return found  # type: ignore[no-any-return]


def _given_loss(output: Any, target: Any, loss: Loss) -> Tensor:
    if target is None:
        raise InputError("This method needs a loss and the data has no targets; give (input, target) pairs.")
    check_targets(output, target)
    return loss(output, target)


def check_targets(output: Any, target: Any) -> None:
    """Raise InputError where class labels do not fit the class scores: one an example, each within range."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor) and isinstance(target, Tensor) and not target.is_floating_point() and logits.ndim >= 2:
        if len(logits) != len(target):
            raise InputError(f"A batch has {len(logits)} outputs but {len(target)} targets; there must be one target an example.")
        if target.shape == logits.shape[:1] + logits.shape[2:]:
            check_labels(target, logits.shape[1])


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise InputError for a label outside [0, classes), the ignored label apart."""
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != IGNORED)]
    if wrong.numel():
        label = wrong.flatten()[0].item()
        raise InputError(f"The label {label} is out of range: the model has {classes} classes, labels are 0 to {classes - 1}.")

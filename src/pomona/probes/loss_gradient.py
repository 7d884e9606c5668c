"""Forward and backward of the user's loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pomona.probes.losses import loss_of
from pomona.probes.recording import examples, join, recording, values
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating

LABELLED: frozenset[Requirement] = frozenset({"data", "labels", "gradients"})


@dataclass(frozen=True)
class LossGradient:
    """One forward and backward pass of the loss in evaluation mode: gradients of watched parameters and of watched inputs.

    Weight decay is no part of the loss here. Without a loss the model's own (`output.loss`) is used. The model's `.grad`
    fields are neither read nor written. Memory: that of a training step without the optimiser.
    """

    requires: ClassVar[frozenset[Requirement]] = LABELLED
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Gradients and inputs of one batch. Raises InputError where no loss can be had or labels are out of range."""
        with evaluating(model), torch.enable_grad(), differentiable(model, watch.grads) as parameters:
            with recording(model, watch, differentiate=True) as record:
                value = loss_of(model, batch, loss)
            calls = {name: record.calls(name) for name in sorted(watch.inputs)}
            at = [*parameters.values(), *(tensor for tensors in calls.values() for tensor in tensors)]
            found = iter(_gradients(value, at))
            grads = {name: next(found) for name in parameters}
            input_grads = {name: join(name, [next(found) for _ in tensors]) for name, tensors in calls.items()}
        return Seen(
            examples(batch),
            inputs=record.inputs(watch.inputs),
            input_grads=input_grads,
            grads=grads,
            weights=values(model, watch),
            blocks=record.blocks,
        )


@dataclass(frozen=True)
class PerExampleGradient:
    """`LossGradient` for each example by itself, as a Fisher information needs it.

    The mean gradient of a batch, squared, underestimates the mean square. Cost: one forward and backward an example.
    """

    requires: ClassVar[frozenset[Requirement]] = LABELLED
    per_example: ClassVar[bool] = True

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Gradients of one example; the collector splits the batches."""
        return LossGradient().run(model, batch, loss, watch)


@contextmanager
def differentiable(model: nn.Module, names: frozenset[str]) -> Iterator[dict[str, nn.Parameter]]:
    """The named parameters, with gradients switched on for the while even where the user froze them."""
    known = dict(model.named_parameters(remove_duplicate=False))
    missing = names - known.keys()
    if missing:
        raise InputError(f"The model has no parameter {min(missing)}; trace the model that you prune.")
    parameters = {name: known[name] for name in sorted(names)}
    frozen = [p for p in parameters.values() if not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield parameters
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _gradients(value: Tensor, at: list[Tensor]) -> tuple[Tensor, ...]:
    if not at:
        return ()
    if not value.requires_grad:
        raise InputError("The loss does not depend on the parameters; it must be computed from the output without detaching it.")
    found = torch.autograd.grad(value, at, allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, at, strict=True))

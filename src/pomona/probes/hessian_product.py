"""The curvature of the loss, along the weights that might go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pomona.probes.loss_gradient import LABELLED, differentiable
from pomona.probes.losses import loss_of
from pomona.probes.recording import examples, values
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating, first_line


@dataclass(frozen=True)
class HessianProduct:
    """The gradient of the watched parameters and the Hessian times their values: one forward, two backward passes.

    The Hessian is that of the loss itself, in evaluation mode; kinks (ReLU) add nothing to it. The direction is all that is
    watched at once: the sum of all units that could go.
    """

    requires: ClassVar[frozenset[Requirement]] = LABELLED
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Raises InputError where an operation of the model has no second derivative."""
        # Fused attention kernels have no second derivative, the written-out one has.
        with (
            evaluating(model),
            torch.enable_grad(),
            differentiable(model, watch.grads) as parameters,
            sdpa_kernel(SDPBackend.MATH),
        ):
            value, at = loss_of(model, batch, loss), list(parameters.values())
            grads = _grads(value, at, create_graph=True)
            along = torch.stack([(g * p.detach()).sum() for g, p in zip(grads, at, strict=True)]).sum()
            products = _grads(along, at)
        return Seen(
            examples(batch),
            grads={name: g.detach() for name, g in zip(parameters, grads, strict=True)},
            weights=values(model, watch),
            curvatures=dict(zip(parameters, products, strict=True)),
        )


def _grads(value: Tensor, at: list[nn.Parameter], create_graph: bool = False) -> list[Tensor]:
    if not value.requires_grad:  # a loss that is linear in the weights has no curvature
        return [torch.zeros_like(p) for p in at]
    try:
        found = torch.autograd.grad(value, at, create_graph=create_graph, allow_unused=True)
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        raise InputError(f"The model has no second derivative ({first_line(error)}); use a first-order method.") from None
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, at, strict=True)]

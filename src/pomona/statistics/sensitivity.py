"""How much a neuron can matter to those that read it, whatever comes in: a bound from weights alone (Mussay et al., 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Member, View

Shared = Literal["max", "sum"]
Activation = Literal["relu", "sigmoid"]


def sensitivities(view: View, beta: float, activation: Activation, shared: Shared) -> Tensor:
    """s_i = (largest or total |w_iq| over readers) * phi(beta * ||p_i||), float64 (units,); p_i is what writes the neuron, bias

    included, `beta` a bound on the norm of its input. 0 for the dead. Raises InputError for anything but an axis that is
    written and read by weights.
    """
    writers, readers = view.members("out"), view.members("in")
    if view.site.kind != "axis" or not writers or not readers:
        raise InputError(f"{view.site.name} is no axis of neurons that weights write and read, so it has no coreset; skip it.")
    owners = {m.tensor.rpartition(".")[0] for m in writers}
    biases = [m for m in view.members("scale") if m.tensor.rpartition(".")[0] in owners and len(m.shape) == 1]
    points = _rows(view, (*writers, *biases)).norm(dim=1)
    outgoing = _rows(view, readers).abs()
    weight = outgoing.amax(1) if shared == "max" else outgoing.sum(1)
    worth = weight * (beta * points if activation == "relu" else torch.sigmoid(beta * points))
    return worth.masked_fill(~view.alive.to(worth.device), 0)


def _rows(view: View, members: tuple[Member, ...]) -> Tensor:
    return torch.cat([m.rows(view.tensors[m.tensor].detach().double()) for m in members], dim=1)

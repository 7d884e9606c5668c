"""Learned tensors of a gate as guests of the user's optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pomona.vocabulary import InputError


def admit(optimizer: torch.optim.Optimizer, learned: Sequence[nn.Parameter]) -> None:
    """Let the optimiser train them at the rate of its first group and without weight decay, which would fight their growth.

    They join a group without decay if there is one, else a group of their own. Raises InputError where that would break
    a learning-rate scheduler, which counts groups.
    """
    if not learned:
        return
    for group in optimizer.param_groups:
        if not group.get("weight_decay"):
            group["params"].extend(learned)
            return
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise InputError(
            "Learned thresholds need an optimizer group without weight decay, and a scheduler counts the "
            "groups already; make the scheduler inside the with statement."
        )
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "param_names")}
    optimizer.add_param_group(settings | {"params": list(learned), "weight_decay": 0.0})


def dismiss(optimizer: torch.optim.Optimizer, learned: Sequence[nn.Parameter]) -> None:
    """Forget them again: parameters, moments, and the group that was made for them."""
    guests = {id(p) for p in learned}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in guests]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for parameter in learned:
        optimizer.state.pop(parameter, None)

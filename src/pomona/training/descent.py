"""How to walk downhill: the optimiser and its learning rate over a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, cos, pi
from typing import Literal

import torch
from torch import nn

from pomona.vocabulary import InputError

OptimizerName = Literal["adamw", "sgd"]
Decay = Literal["cosine", "constant"]
BatchNorms = Literal["moving", "kept"]


@dataclass(frozen=True)
class Descent:
    """AdamW or SGD with a short linear warm-up and a cosine to zero.

    `warmup` is the share of all steps that warm up, `clip` the largest gradient norm (None: free). `amp` runs the forward
    pass in bfloat16; None means where it pays, which is on CUDA only: on CPUs, even those with bfloat16 units, small
    models get slower and every machine would round differently. `norms="kept"` trains through the batch norms' running
    statistics as they are: for data that are few, or unlike those that the model was trained on.
    """

    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    decay: Decay = "cosine"
    clip: float | None = None
    amp: bool | None = None
    norms: BatchNorms = "moving"

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise InputError(f"'{self.optimizer}' is not an optimizer; use adamw or sgd.")
        if not self.lr > 0:
            raise InputError(f"The learning rate must be positive; {self.lr:g} is not.")
        if self.norms not in ("moving", "kept"):
            raise InputError(f"'{self.norms}' is not a way to treat batch norms; use moving or kept.")
        if not 0 <= self.warmup < 1:
            raise InputError(f"The warm-up is a share of the steps in [0, 1); {self.warmup:g} is not.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimiser over those parameters that take gradients."""
        trainable = [p for p in parameters if p.requires_grad]
        if not trainable:
            raise InputError("No parameter of the model takes gradients; set requires_grad on those that should learn.")
        if self.optimizer == "sgd":
            return torch.optim.SGD(trainable, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return torch.optim.AdamW(trainable, lr=self.lr, weight_decay=self.weight_decay)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`, the first being 0."""
        rising = ceil(self.warmup * steps) if self.warmup else 0
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        if self.decay == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + cos(pi * (step - rising) / max(1, steps - rising)))

    def mixed(self, device: torch.device) -> bool:
        """Whether to run the forward pass in bfloat16 on this device."""
        return device.type == "cuda" and torch.cuda.is_bf16_supported() if self.amp is None else self.amp

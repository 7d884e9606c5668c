"""LoRA through peft, its merge masked (Hu et al., 2022; LoRA-Prune in Zimmer et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from pomona.recovery.low_rank import LowRank
from pomona.training.adapters import targets
from pomona.training.peft_lora import peft_lora
from pomona.vocabulary import Training


@dataclass(frozen=True)
class Lora(LowRank):
    """Every pruned layer W trains as W x + alpha/rank * B (A x) and is W + alpha/rank * M ⊙ (B A) at the end, M its mask.

    It never makes the matrix B A while it trains, so it takes less memory than MaskLora, but the changes that the mask then
    takes away were trained with. In a model without masks, cut by structure, nothing is taken away. Needs peft.
    """

    alpha: float = 32.0

    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """On the pruned layers."""
        found = targets(model, training.hold, chosen)
        return peft_lora(model, found, chosen, self.rank, self.alpha, training.seed)

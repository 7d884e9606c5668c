"""MaskLoRA: low-rank changes of the living weights (Zimmer et al., 2023, after LoRA by Hu et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from pomona.recovery.low_rank import LowRank
from pomona.training.adapters import Masked, Shape, adapted, targets
from pomona.vocabulary import Training, generator


@dataclass(frozen=True)
class MaskLora(LowRank):
    """Every pruned matrix W trains as W + alpha/rank * M ⊙ (B A), M being its mask, and is one matrix again at the end.

    Biases and norms train beside (`which`). In a model without masks, cut by structure, this is LoRA on every matrix but the
    embeddings.
    """

    alpha: float = 32.0

    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """On the pruned matrices."""
        random = generator(training.seed)

        def make(shape: Shape, alive: Tensor) -> nn.Module:
            return Masked(shape, alive, self.rank, self.alpha / self.rank, random)

        return adapted(model, targets(model, training.hold, chosen), make)

"""MaskLoRA: low-rank changes of the living weights (Zimmer et al., 2023, after LoRA by Hu et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from pomona.recovery.partial import Partial
from pomona.training.adapters import Masked, Shape, adapted, targets
from pomona.vocabulary import InputError, Training, generator


@dataclass(frozen=True)
class MaskLora(Partial):
    """Every pruned matrix W trains as W + alpha/rank * M ⊙ (B A), M being its mask, and is one matrix again at the end.

    Biases and norms train beside (`which`). In a model without masks, cut by structure, this is LoRA on every matrix but the
    embeddings.
    """

    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f"The rank of an adapter is at least 1; {self.rank} is not.")

    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """On the pruned matrices."""
        random = generator(training.seed)

        def make(shape: Shape, alive: Tensor) -> nn.Module:
            return Masked(shape, alive, self.rank, self.alpha / self.rank, random)

        return adapted(model, targets(model, training.hold, chosen), make)

"""ScaleLoRA: the living weights rescaled by a low-rank matrix (Zimmer et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor, nn

from pomona.recovery.low_rank import LowRank
from pomona.training.adapters import Scaled, Shape, adapted, targets
from pomona.vocabulary import Training, generator


@dataclass(frozen=True)
class ScaleLora(LowRank):
    """Every pruned matrix W trains as W ⊙ (B A), B A starting as all ones, and is one matrix again at the end.

    Biases and norms train beside (`which`). No weight can come back from zero, with no mask at all.
    """

    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """On the pruned matrices."""
        random = generator(training.seed)

        def make(shape: Shape, alive: Tensor) -> nn.Module:
            return Scaled(shape, alive, self.rank, random)

        return adapted(model, targets(model, training.hold, chosen), make)

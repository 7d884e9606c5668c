"""PERP: retrain the few parameters that make up for pruning (Zimmer et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import nn

from pomona.recovery.partial import Partial
from pomona.vocabulary import Training


@dataclass(frozen=True)
class Perp(Partial):
    """Biases and norms train, in a language model some hundredths of a percent; every weight stays as pruning left it.

    `which=biases+norms+head` trains the last layer too. `masklora` and `scalelora` train more where this is not enough.
    """

    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """None."""
        return nullcontext()

"""Reconstruction: block after block learns to give what the dense one gives (Zimmer et al., 2023; Guo et al., EBFT, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from pomona.training.adapters import Masked, Shape, Target, adapted, targets
from pomona.training.batches import of_epoch
from pomona.training.beside import distance, error, taught
from pomona.training.checkpoint import restore, values
from pomona.training.descent import Decay, Descent, OptimizerName
from pomona.training.fit import fit
from pomona.training.subset import only, subset, words
from pomona.vocabulary import InputError, Requirement, Training, generator
from pomona.vocabulary.beside import Beside


@dataclass(frozen=True)
class Reconstruct:
    """Each block in its turn is trained until it gives, on what the blocks recovered before it give, what the dense one gives.

    No label is read and no loss of the whole model: what falls is the squared difference of a token's hidden states over their
    square in the dense model, meaned over the tokens of the first `calibrate` batches. Memory: gradients and optimiser of one
    block, and what it reads and should give for these batches. What learns are the pruned matrices of the block (all of them,
    where none is pruned), with `rank` 0 the living weights themselves, as in EBFT, else by MaskLoRA, M ⊙ (B A) * alpha/rank of
    that rank, as in PERP's reconstruction, which goes layer by layer where this goes block by block; and biases and norms
    (`which`, or none). A block that has come no nearer is put back. `steps` counts optimiser steps a block in place of epochs
    (0: epochs).
    """

    epochs: int = 10
    lr: float = 2e-4
    rank: int = 0
    alpha: float = 32.0
    which: str = "biases+norms"
    calibrate: int = 64
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    decay: Decay = "cosine"
    clip: float | None = None
    amp: bool | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        self.descent  # noqa: B018 (refuses bad settings before any work)
        if "head" in words(self.which):
            raise InputError("Blocks have no head to reconstruct; write which=biases+norms, one of them or none.")
        if self.rank < 0 or self.calibrate < 1:
            raise InputError(
                f"Reconstruct needs at least 1 batch and a rank from 0 on (0: no adapters); got {self.calibrate} and {self.rank}."
            )

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; the dense model teaches."""
        return frozenset({"data"})

    @property
    def descent(self) -> Descent:
        """How it walks downhill."""
        return Descent(
            self.optimizer, self.lr, self.momentum, self.weight_decay, self.warmup, self.decay, self.clip, self.amp, "kept"
        )

    @property
    def rewinds(self) -> bool:
        """Training goes on from the weights as they are, whole or cut."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Train in place; returns the `loss` by epoch, meaned over blocks, and by block what it was `before` and `after`.

        Raises InputError where there is no dense model, or it has no list of blocks.
        """
        if training.beside is None:
            raise InputError(
                "Reconstructing goes block by block beside the dense model; use distil where nobody knows its blocks."
            )
        batches = [batch.unlabelled for batch in islice(of_epoch(training.data, 0, training.seed), self.calibrate)]
        made = [self._reconstructed(each, model, training) for each in training.beside(model, batches)]
        losses = [loss for loss, _, _ in made if loss]
        return {
            "loss": [sum(epoch) / len(epoch) for epoch in zip(*losses, strict=True)],
            "before": [before for _, before, _ in made],
            "after": [after for _, _, after in made],
        }

    def _reconstructed(self, each: Beside, model: nn.Module, training: Training) -> tuple[list[float], float, float]:
        """(loss by epoch, loss before, loss after) of one block."""
        data = list(taught(each))
        before, start = error(each.pruned, data), values(each.pruned)
        vectors = subset(each.pruned, self.which, data[0])
        chosen = targets(each.pruned, lambda _: training.hold(model), vectors)
        weights = [] if self.rank else [target.weight for target in chosen]
        if not (vectors or chosen):
            return [], before, before

        def hold(_: nn.Module) -> None:
            for target in chosen if weights else ():
                target.weight.data.masked_fill_(~target.alive, 0)

        with only(each.pruned, [*vectors, *weights]), self._adapters(each.pruned, chosen, training.seed):
            told = fit(
                each.pruned,
                data,
                distance,
                self.descent,
                epochs=self.epochs,
                steps=self.steps,
                keep="last",
                hold=hold,
                folder=training.folder / each.block if training.folder else None,
                seed=training.seed,
                progress=training.progress,
                name=f"reconstructing {each.block}",
            )
        after = error(each.pruned, data)
        if after < before:
            return told["loss"], before, after
        restore(each.pruned, start)
        return told["loss"], before, before

    def _adapters(self, block: nn.Module, chosen: Sequence[Target], seed: int) -> AbstractContextManager[None]:
        if not self.rank:
            return nullcontext()
        random = generator(seed)

        def make(shape: Shape, alive: Tensor) -> nn.Module:
            return Masked(shape, alive, self.rank, self.alpha / self.rank, random)

        return adapted(block, chosen, make)

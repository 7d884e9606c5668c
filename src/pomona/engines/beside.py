"""Two models walked through together, block by block: what a recovery of single blocks goes through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from pomona.engines.blocks import Chain
from pomona.engines.sweep import Walk
from pomona.vocabulary import Batch, InputError
from pomona.vocabulary.beside import Beside


def beside(
    pruned: nn.Module, dense: nn.Module, chains: Sequence[Chain], batches: Sequence[Batch], seed: int = 0
) -> Iterator[Beside]:
    """The blocks of both models in the order in which they run.

    A pruned block is called on what the pruned ones before it give once whoever asks has had their turn with them. Memory:
    what one block of each model gives for all batches. Raises InputError where the pruned model does not have the blocks.
    """
    there = {name for name, _ in pruned.named_modules()}
    if missing := [block for chain in chains for block in chain.blocks if block not in there]:
        raise InputError(
            f"The pruned model is a program and has no module {missing[0]}, so it cannot be recovered block by block; "
            "use distil, or another recovery of the whole model."
        )
    own, whole = (Walk(model, chains, batches, seed=seed).turns() for model in (pruned, dense))
    for ours, theirs in zip(own, whole, strict=True):
        assert ours.calls is not None and theirs.calls is not None  # there are batches
        yield Beside(ours.block, ours.shell, theirs.shell, _Pairs(ours.calls, theirs.calls))
        ours.hand_on()
        theirs.hand_on()


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Two iterables as one of pairs that can be walked again and again."""

    first: Iterable[Batch]
    second: Iterable[Batch]

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        return zip(self.first, self.second, strict=True)

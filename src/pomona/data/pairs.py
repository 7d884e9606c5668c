"""Data for encoder-decoders: what the decoder reads is among the inputs, not left to be made of labels that nobody passes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pomona.data.data import Data
from pomona.data.loaders import TokenLoader
from pomona.vocabulary import InputError

Later = Callable[[Tensor], Tensor]  # labels -> decoder_input_ids


@dataclass(frozen=True, eq=False)
class Pairs:
    """The same batches; those that have labels and no decoder_input_ids get them. `later` makes them."""

    batches: Iterable[Any]
    later: Later

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches) if isinstance(self.batches, Sized) else sum(1 for _ in self.batches)

    def __iter__(self) -> Iterator[Any]:
        for raw in self.batches:
            made = isinstance(raw, Mapping) and isinstance(raw.get("labels"), Tensor) and "input_ids" in raw
            yield {"decoder_input_ids": self.later(raw["labels"]), **raw} if made else raw

    def set_epoch(self, epoch: int) -> None:
        """Hand the epoch to batches that shuffle by it."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)


def paired(data: Data, later: Later) -> Data:
    """Data as an encoder-decoder takes them: of windows of text it reads one half and writes the other.

    Raises InputError for questions, whose endings are judged by what goes on from the context.
    """
    if data.metric == "choice":
        raise InputError(f"{data.name} holds questions, which are for models that go on writing; this one is an encoder-decoder.")
    return replace(data, train=beside(data.train, later), test=beside(data.test, later))


def beside(batches: Iterable[Any], later: Later) -> Iterable[Any]:
    """Batches with what the decoder reads beside what the encoder does."""
    return replace(batches, later=later) if isinstance(batches, TokenLoader) else Pairs(batches, later)

"""In-memory batches. Every loader gives the same batches in the same order each time it is iterated: runs repeat and resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pomona.vocabulary import generator


@dataclass(frozen=True, eq=False)
class ArrayLoader:
    """(x, y) batches of two arrays, or x alone; the last batch may be smaller. `seed` fixes a shuffle, None keeps the order.

    >>> [len(x) for x, y in ArrayLoader(torch.zeros(5, 3), torch.arange(5), batch=2)]
    [2, 2, 1]
    """

    x: Tensor
    y: Tensor | None
    batch: int = 64
    seed: int | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.x) // self.batch)

    def __iter__(self) -> Iterator[Any]:
        for rows in pieces(order(len(self.x), self.seed), self.batch):
            yield self.x[rows] if self.y is None else (self.x[rows], self.y[rows])


@dataclass(frozen=True, eq=False)
class TokenLoader:
    """Windows of text for a language model: `windows` is int64 (n, length); batches are dicts whose labels are the ids.

    With `later`, which makes decoder_input_ids of labels, they are for an encoder-decoder: it reads the first half of a window,
    and the second half is the labels.
    """

    windows: Tensor
    batch: int = 8
    seed: int | None = None
    later: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.windows) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for rows in pieces(order(len(self.windows), self.seed), self.batch):
            ids = labels = self.windows[rows]
            if self.later is not None:
                # The same text on both sides would only ask for a copy.
                ids, labels = (half.contiguous() for half in ids.tensor_split(2, 1))
            written = {} if self.later is None else {"decoder_input_ids": self.later(labels)}
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, **written}


@dataclass(frozen=True, eq=False)
class SentenceLoader:
    """Tokenised sentences in their own order, each batch padded to its longest: dicts of input_ids and attention_mask.

    `pairs` (n, 2) int64 indexes sentences and `scores` (n,) float64 is how alike people found them; both are empty for
    sentences that nobody rated.
    """

    ids: Sequence[Sequence[int]]
    pad: int = 0
    batch: int = 32
    pairs: Tensor = field(default_factory=lambda: torch.empty(0, 2, dtype=torch.int64))
    scores: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.ids) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self.ids), self.batch):
            rows = [torch.tensor(row, dtype=torch.int64) for row in self.ids[start : start + self.batch]]
            ones = [torch.ones_like(row) for row in rows]
            padded = torch.nn.utils.rnn.pad_sequence
            yield {"input_ids": padded(rows, True, float(self.pad)), "attention_mask": padded(ones, True, 0.0)}


def order(count: int, seed: int | None) -> Tensor:
    """0 to count - 1, shuffled when there is a seed."""
    return torch.arange(count) if seed is None else torch.randperm(count, generator=generator(seed))


def pieces(rows: Tensor, size: int) -> Iterator[Tensor]:
    """The rows in pieces of `size`, the last perhaps smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def split(count: int, seed: int, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Row numbers (train, test): `share` of a seeded shuffle is for testing, at least one row on each side if there are two."""
    rows = order(count, seed)
    held = max(1, round(count * share)) if count > 1 else 0
    return rows[held:].sort().values, (rows[:held] if held else rows).sort().values

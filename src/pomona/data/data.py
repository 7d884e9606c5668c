"""What a data set is to Pomona: batches to learn from, batches to measure on, and the measure that fits them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Data:
    """Two re-iterable sources of batches (see `Batch.of` for their forms); each gives the same batches every time.

    `metric` is the measure that fits the labels: "accuracy", "perplexity", "spearman", "pearson", "mse", or
    "agreement" where there are no labels. `classes` names the labels in order, empty where there are none. `notes` are
    sentences that the user should read, such as that another data set stands in.
    """

    train: Iterable[Any]
    test: Iterable[Any]
    metric: str
    name: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

"""Measures of classifiers: accuracy and macro F1, with their parts by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pomona.evaluate.outputs import answer, batches, predictions
from pomona.evaluate.tally import ClassQuality, Meter, Tally
from pomona.vocabulary import InputError


def accuracy(model: nn.Module, data: Iterable[Any], names: Sequence[str], meter: Meter) -> Tally:
    """Share of examples whose top choice is the label; by class, the share of its examples found (recall)."""
    table = confusion(model, data, meter)
    support, right = table.sum(1), table.diagonal()
    return Tally(float(right.sum() / support.sum()), int(support.sum()), _by_class(right / support.clamp(min=1), support, names))


def macro_f1(model: nn.Module, data: Iterable[Any], names: Sequence[str], meter: Meter) -> Tally:
    """Mean over the classes that occur in the labels of 2 TP / (2 TP + FP + FN)."""
    table = confusion(model, data, meter)
    support, right = table.sum(1), table.diagonal()
    f1 = 2 * right / (table.sum(0) + support).clamp(min=1)
    return Tally(float(f1[support > 0].mean()), int(support.sum()), _by_class(f1, support, names))


def confusion(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tensor:
    """(classes, classes) float64 counts: rows are labels, columns top choices. Raises InputError on labels that do not fit."""
    table: Tensor | None = None
    for batch in batches(data):
        scores = predictions(answer(model, batch))
        labels = _labels(batch.target, scores)
        count = scores.shape[1]
        if table is None:
            table = torch.zeros(count, count, dtype=torch.float64)
        chosen = scores.argmax(1).flatten().cpu()
        table += torch.bincount(labels * count + chosen, minlength=count * count).view(count, count)
        meter(1, accuracy=float(table.diagonal().sum() / table.sum().clamp(min=1)))
    assert table is not None
    if not table.any():
        raise InputError("The data holds no labelled examples; at least one is needed.")
    return table


def _labels(target: Any, scores: Tensor) -> Tensor:
    """int64 (examples,), checked against the scores' shape; classes are in dimension 1, further dimensions are positions."""
    if not isinstance(target, Tensor) or target.is_floating_point():
        raise InputError("Accuracy needs whole-number labels: batches of (input, label).")
    if scores.dim() < 2 or target.shape != (scores.shape[0], *scores.shape[2:]):
        raise InputError(
            f"Labels of shape {tuple(target.shape)} do not fit scores of shape {tuple(scores.shape)}; give one an example."
        )
    labels = target.flatten().long().cpu()
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]):
        raise InputError(
            f"Labels run from {int(labels.min())} to {int(labels.max())}; the model has {scores.shape[1]} classes, "
            f"so they must lie in 0 to {scores.shape[1] - 1}."
        )
    return labels


def _by_class(values: Tensor, support: Tensor, names: Sequence[str]) -> tuple[ClassQuality, ...]:
    label = {number: name for number, name in enumerate(names)}
    rows = support.nonzero().flatten().tolist()
    return tuple(ClassQuality(label.get(i, str(i)), int(support[i]), float(values[i])) for i in rows)

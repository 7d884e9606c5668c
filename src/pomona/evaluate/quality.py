"""How good a model is on data: one function, one measure at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.evaluate import classes as by_class
from pomona.evaluate.choices import choice, cloze
from pomona.evaluate.faithfulness import agreement, divergence
from pomona.evaluate.language import perplexity
from pomona.evaluate.outputs import measuring
from pomona.evaluate.regression import mean_squared_error
from pomona.evaluate.similarity import correlation
from pomona.evaluate.tally import ClassQuality, Meter, Tally
from pomona.vocabulary import InputError, Progress, Silent

METRICS = ("accuracy", "f1", "perplexity", "choice", "cloze", "mse", "agreement", "kl", "spearman", "pearson")
_LOWER_IS_BETTER = {"perplexity", "mse", "kl"}


@dataclass(frozen=True)
class Quality:
    """One number and what stands behind it.

    `value` is a share in [0, 1] for accuracy, f1, choice, cloze and agreement; nats for kl. `examples` counts what was measured:
    pictures, predicted tokens, or rated pairs. `per_class` is filled by accuracy (recall of the class) and f1.
    """

    metric: str
    value: float
    higher_is_better: bool = True
    per_class: tuple[ClassQuality, ...] = ()
    examples: int = 0


def evaluate(
    model: nn.Module,
    data: Iterable[Any],
    metric: str = "accuracy",
    *,
    dense: nn.Module | None = None,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> Quality:
    """Measure `model`, in evaluation mode, on every batch of `data`.

    "accuracy" and "f1" (macro, over classes that occur) want (input, class) batches; "perplexity" token ids; "choice" questions
    and "cloze" windows of text, for language models whose perplexity hides what they lost; "mse" float targets; "agreement"
    (share of equal top choices) and "kl" (mean KL(dense || model) of the predicted distributions) want the `dense` model and no
    labels; "spearman" and "pearson" want rated sentence pairs. `names` are the classes' names. Raises InputError when metric,
    data and labels do not fit, or the data is empty.
    """
    if metric not in METRICS:
        raise InputError(f"'{metric}' is not a measure; use one of {', '.join(METRICS)}.")
    if metric in ("agreement", "kl") and dense is None:
        raise InputError(f"'{metric}' compares with the dense model; give it with --dense (dense= in Python).")
    measures: dict[str, Callable[[Meter], Tally]] = {
        "accuracy": lambda meter: by_class.accuracy(model, data, names, meter),
        "f1": lambda meter: by_class.macro_f1(model, data, names, meter),
        "perplexity": lambda meter: perplexity(model, data, meter),
        "choice": lambda meter: choice(model, data, meter),
        "cloze": lambda meter: cloze(model, data, meter),
        "mse": lambda meter: mean_squared_error(model, data, meter),
        "agreement": lambda meter: agreement(model, _given(dense), data, meter),
        "kl": lambda meter: divergence(model, _given(dense), data, meter),
        "spearman": lambda meter: correlation(model, data, "spearman", meter),
        "pearson": lambda meter: correlation(model, data, "pearson", meter),
    }
    total = len(data) if isinstance(data, Sized) else None
    with (progress or Silent()).stage(f"measuring {metric}", total) as stage, measuring(model):
        tally = measures[metric](stage.advance)
    return Quality(metric, tally.value, metric not in _LOWER_IS_BETTER, tally.per_class, tally.examples)


def _given(dense: nn.Module | None) -> nn.Module:
    assert dense is not None
    return dense

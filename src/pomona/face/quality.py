"""How good a model is, by the user's own measure, told the same way wherever it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.data import Data
from pomona.evaluate import Quality, evaluate


@dataclass(frozen=True, eq=False)
class Judge:
    """A measure of quality on data that nothing else of the run has seen."""

    measure: Callable[[nn.Module], Quality]
    data: Any = None

    def value(self, model: nn.Module) -> float:
        """The metric as users know it."""
        return self.measure(model).value

    def signed(self, model: nn.Module) -> float:
        """Higher is better, whatever the metric."""
        quality = self.measure(model)
        return quality.value if quality.higher_is_better else -quality.value


def judge_of(test: Any, metric: str | None, dense: nn.Module) -> Judge | None:
    """A judge from data and a metric, or from a function of the model that returns a number or a Quality.

    Agreement and divergence are measured against `dense`.
    """
    if test is None or isinstance(test, Judge):
        return test
    if isinstance(test, Data):
        return Judge(lambda model: evaluate(model, test.test, metric or test.metric, dense=dense, names=test.classes), test.test)
    if callable(test) and not hasattr(test, "__iter__"):
        return Judge(lambda model: _as_quality(test(model)))
    return Judge(lambda model: evaluate(model, test, metric or "accuracy", dense=dense), test)


def _as_quality(value: Any) -> Quality:
    return value if isinstance(value, Quality) else Quality("score", float(value), higher_is_better=True)

"""Tasks asked of the dense and of the final model, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from pomona.evaluate import TaskScore
from pomona.graph.surgery import Realised

Asked = Callable[[nn.Module], Sequence[TaskScore]]


def tasked(tasks: Asked | None, dense: nn.Module, realised: Realised) -> list[dict[str, Any]]:
    """One entry a task and metric for the report; `after` is None where the small model is a program, which cannot be asked."""
    if tasks is None:
        return []
    after = {} if realised.form == "graph" else {_key(score): score for score in tasks(realised.model)}
    return [_entry(score, after.get(_key(score))) for score in tasks(dense)]


def _key(score: TaskScore) -> tuple[str, str, str]:
    return score.task, score.metric, score.filter


def _entry(before: TaskScore, after: TaskScore | None) -> dict[str, Any]:
    return {
        "task": before.task,
        "metric": before.metric,
        "filter": before.filter,
        "higher_is_better": before.higher_is_better,
        "before": before.value,
        "after": after.value if after else None,
        "stderr": after.stderr if after else None,
        "examples": before.examples,
        "shots": before.shots,
    }

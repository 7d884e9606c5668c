"""Measures of quality and of size."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from pomona.evaluate.counts import Counts, count
from pomona.evaluate.harness import Tasks, TaskScore
from pomona.evaluate.quality import METRICS, Quality, evaluate
from pomona.evaluate.tally import ClassQuality

__all__ = ["METRICS", "ClassQuality", "Counts", "Quality", "TaskScore", "Tasks", "count", "evaluate"]


class _Package(ModuleType):
    """`pomona.evaluate` is the public function, and importing this package puts the package in its place: so it can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Quality:
        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Package

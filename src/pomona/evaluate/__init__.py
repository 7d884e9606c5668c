"""Measures of quality and of size."""

from pomona.evaluate.counts import Counts, count
from pomona.evaluate.quality import METRICS, Quality, evaluate
from pomona.evaluate.tally import ClassQuality

__all__ = ["METRICS", "ClassQuality", "Counts", "Quality", "count", "evaluate"]

"""Training after a decision: fine-tune, distil, recalibrate, retrain from a snapshot."""

from pomona.recovery.text import parse

__all__ = ["parse"]

"""Scores made relative to those that they stand among, so that scores of different origin can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

Relative = Literal["none", "mean", "sum", "l2", "max", "standardise"]

_SCALES: Mapping[Relative, Callable[[Tensor], tuple[Tensor | float, Tensor | float]]] = {  # what is subtracted, what divides
    "none": lambda v: (0.0, 1.0),
    "mean": lambda v: (0.0, v.abs().mean()),
    "sum": lambda v: (0.0, v.abs().sum()),
    "l2": lambda v: (0.0, v.norm()),
    "max": lambda v: (0.0, v.abs().max()),
    "standardise": lambda v: (v.mean(), v.std(correction=0)),
}


def relative(values: Tensor, to: Relative, among: Tensor) -> Tensor:
    """`values` over the mean, sum, Euclidean norm or maximum of |among|, or standardised by its mean and deviation.

    Where that divisor is 0, or `among` holds nothing, they stay as they are.
    """
    if not among.numel():
        return values
    shift, scale = _SCALES[to](among)
    return (values - shift) / (scale if scale else 1.0)

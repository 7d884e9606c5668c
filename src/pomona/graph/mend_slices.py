"""Slices with bounds that the code writes down: `x[:, :64]`. One index may hold several, and each is an op of the program."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from pomona.graph.mend_kinds import Right, Wanted

_OPEN = 2**63 - 1  # the end of a slice that has none, in a program


def sliced(index: Any, rank: int) -> Iterator[tuple[int, int, int]]:
    """(place in the index, the dimension sliced there, as torch counts when numbers have taken theirs away, and as it was)."""
    parts, dim, source = parts_of(index), 0, 0
    took = [
        part.dim() if getattr(part, "dtype", None) == torch.bool else int(part is not None and part is not ...) for part in parts
    ]
    for place, part in enumerate(parts):
        if isinstance(part, slice):
            yield place, dim, source
        many = rank - sum(took) if part is ... else took[place]
        dim, source = dim + (0 if type(part) is int else 1 if part is None else many), source + many


def parts_of(index: Any) -> tuple[Any, ...]:
    """The parts of what stands in the brackets."""
    return index if isinstance(index, tuple) else (index,)


def is_this(part: slice, dim: int, n: fx.Node) -> bool:
    """Whether an op of the traced program may be this slice: what is open in the code is open there."""
    given = n.args
    start, end = (given[2] if len(given) > 2 else 0), (given[3] if len(given) > 3 else None)
    return bool(given[1] == dim) and (part.start is not None or not start) and (part.stop is None) == (end in (None, _OPEN))


def put_right_slice(part: slice, length: int, wanted: Wanted) -> tuple[slice, Right] | None:
    """The slice as it should be, of a dimension that has this length now, and the factors of its two bounds.

    None where it is right, or cannot be put right: a bound that is open or zero has no factor.
    """
    written, right = (part.start, part.stop), wanted[1][2:4]
    if part.step not in (None, 1) or not all(bound is None or type(bound) is int for bound in written):
        return None
    ends = [(0 if bound == 0 else open_, new) for bound, open_, new in zip(written, (0, length), right, strict=True) if not bound]
    factors = tuple(_factor(bound, length, new) if bound else None for bound, new in zip(written, right, strict=True))
    if any(now != min(new, length) for now, new in ends) or all(factor in (None, 1) for factor in factors):
        return None
    return slice(*right), factors


def _factor(bound: int, length: int, right: int) -> Fraction:
    return (
        Fraction(right - length, bound) if bound < 0 else Fraction(1) if min(bound, length) == right else Fraction(right, bound)
    )

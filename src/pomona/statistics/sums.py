"""What most accumulators are made of: named sums that can be added in any order."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary import InputError, Site, State, Watch, Weight
from pomona.vocabulary.precision import single_or_double


def added(state: State | None, more: State) -> State:
    """Two sets of sums as one; None stands for nothing yet."""
    return more if state is None else {name: value + more[name] for name, value in state.items()}


def count(number: int) -> Tensor:
    """A count as a float64 scalar, so that it can live among the sums."""
    return torch.tensor(float(number), dtype=torch.float64)


def squarable(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are, or where the sum of their squares might leave the range of float32.

    >>> squarable(torch.tensor([1.0])).dtype, squarable(torch.tensor([1e-24])).dtype
    (torch.float32, torch.float64)
    """
    if values.is_meta or not values.numel():
        return single_or_double(values)
    most = max(abs(float(extreme)) for extreme in values.aminmax())
    return single_or_double(values) if most == 0 or 1e-12 < most < 1e12 else values.double()


def only_weight(site: Site, asker: str) -> str:
    """The one weight that the site is about; raises InputError for branches and for axes as a whole."""
    if site.weight is None:
        raise InputError(f"{asker} is defined for single weights and {site.name} has none; use structure Weights, NM or Block.")
    return site.weight.tensor


def watched(weight: Weight) -> Watch:
    """What such a weight reads; of a stack, matrix by matrix."""
    name = frozenset({weight.tensor})
    return Watch(inputs=name) if weight.stack is None else Watch(experts=name)

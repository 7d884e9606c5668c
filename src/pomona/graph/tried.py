"""A float64 twin of a small model and what it answers; one that was run while the model was made serves its proof as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from pomona.graph.alike import unlike
from pomona.graph.mend_scale import Scales
from pomona.graph.precise import precise
from pomona.graph.reference import answer
from pomona.graph.rehearsal import forget

Folds = Callable[[Scales | None], Mapping[str, Tensor]]  # weights before they were rounded, by what they were multiplied
Right = Callable[[list[Tensor]], bool]


@dataclass(frozen=True, eq=False)
class Tried:
    """A float64 model in evaluation mode and what it answered to the example inputs.

    `folded` is by what its weights were multiplied, `rounded` names those that are in it as they were before the small model's
    precision rounded them.
    """

    twin: nn.Module
    answer: list[Tensor]
    folded: Scales = field(default_factory=dict)
    rounded: tuple[str, ...] = ()

    @classmethod
    def anew(cls, small: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], folds: Folds, right: Right) -> Tried:
        """A copy of the small model, run; where that is not `right`, once more with its folded weights before rounding."""
        twin = forget(precise(small, borrow=True), args, kwargs)
        got = answer(twin, args, kwargs)
        if right(got) or not (exact := folds(None)):
            return cls(twin, got)
        with torch.no_grad():
            for name, value in exact.items():
                twin.get_parameter(name).copy_(value)
        return cls(twin, answer(twin, args, kwargs), rounded=tuple(exact))

    def still(self, small: nn.Module, folds: Folds) -> Tried | None:
        """Itself, if a copy of the small model would be the same model to the bit, but for weights that `folds` explains."""
        apart = unlike(self.twin, small)
        if apart is None:
            return None
        exact = folds(self.folded) if apart else {}
        same = all(name in exact and _equal(self.twin.get_parameter(name), exact[name]) for name in apart)
        return replace(self, rounded=tuple(sorted(apart))) if same else None


def _equal(a: Tensor, b: Tensor) -> bool:
    """To the last digits of float64."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-14, atol=0)

"""Whether every value is a number."""

from __future__ import annotations

from torch import Tensor


def finite(values: Tensor) -> bool:
    """No NaN and no infinity; whole numbers are always finite. Looks at the two extremes, which NaN passes through to.

    >>> import torch
    >>> finite(torch.tensor([1.0, 2.0])), finite(torch.tensor([1.0, float("nan")])), finite(torch.tensor([-float("inf"), 0.0]))
    (True, False, False)
    """
    if not values.numel() or not values.is_floating_point():
        return True
    wide = values.detach() if values.element_size() > 1 else values.detach().float()
    return all(bool(extreme.isfinite()) for extreme in wide.aminmax())

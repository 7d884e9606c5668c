"""Whether data can be used, asked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pomona.vocabulary import Batch, InputError


def check_arrays(x: Tensor, y: Tensor | None, name: str, classes: int | None = None) -> None:
    """Raise InputError unless x (and y, one entry an example) are non-empty, finite and, with `classes`, in range."""
    if x.dim() == 0 or len(x) == 0:
        raise InputError(f"{name} is empty; at least one example is needed.")
    check_finite(x, f"The inputs of {name}")
    if y is None:
        return
    if y.dim() == 0 or len(y) != len(x):
        raise InputError(
            f"{name} has {len(x)} inputs and {0 if y.dim() == 0 else len(y)} labels; there must be one label an input."
        )
    check_finite(y, f"The labels of {name}")
    if classes is not None:
        check_labels(y, classes, name)


def check_finite(x: Tensor, what: str) -> None:
    """Raise InputError when a floating-point tensor holds NaN or infinity, saying how many and where the first is."""
    if not x.is_floating_point():
        return
    bad = ~torch.isfinite(x)
    if bool(bad.any()):
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise InputError(
            f"{what} hold {int(bad.sum())} values that are NaN or infinite, the first at {first}; all must be finite."
        )


def check_labels(y: Tensor, classes: int, name: str) -> None:
    """Raise InputError when integer labels leave [0, classes)."""
    if y.is_floating_point() or y.numel() == 0:
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"The labels of {name} run from {low} to {high}; with {classes} classes they must lie in 0 to {classes - 1}."
        )


def check_batch(raw: object, name: str) -> None:
    """Raise InputError unless `raw` is a batch with at least one example and finite inputs."""
    batch = Batch.of(raw)
    tensors: Sequence[Tensor] = [v for v in (*batch.args, *batch.kwargs.values()) if isinstance(v, Tensor)]
    if not tensors or any(t.dim() > 0 and len(t) == 0 for t in tensors):
        raise InputError(f"A batch of {name} is empty; at least one example is needed.")
    for tensor in tensors:
        check_finite(tensor, f"The inputs of {name}")

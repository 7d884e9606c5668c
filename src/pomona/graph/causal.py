"""What torch's own transformer layers find out by looking at a mask's numbers, which a trace does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn.modules import transformer


@contextmanager
def unlooked() -> Iterator[None]:
    """Within it, `nn.TransformerEncoder` and the decoder do not ask whether the mask that they are given is causal.

    It would only tell kernels to work that mask out for themselves; the mask itself says the same.
    """
    before = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = _told
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = before


def _told(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    return bool(is_causal)

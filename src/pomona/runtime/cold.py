"""Cold weights: caches emptied before a call, as a model larger than they are finds them."""

from __future__ import annotations

from functools import cache

import torch

from pomona.native.buffers import array, size
from pomona.native.library import library
from pomona.runtime.machine import caches, processors

_LEAST = 320_000_000  # bytes; some machines keep more than they say


class Evict:
    """Called, it reads so much that nothing else is left in the caches: 4/3 of the last one, 320 MB at least.

    All processors of the process take part, because each has a cache of its own. The bytes are held as long as this is.
    """

    def __init__(self, nbytes: int | None = None) -> None:
        self.buffer = torch.zeros((nbytes or max(_LEAST, caches()[1] * 4 // 3)) // 4)

    def __call__(self) -> None:
        """Empty the caches."""
        read(self.buffer, len(processors()))


@cache
def evict() -> Evict:
    """The one of this process."""
    return Evict()


def read(buffer: torch.Tensor, threads: int = 1, times: int = 1) -> None:
    """Read a float32 vector from its beginning to its end, so many times: by the kernel, else by torch's sum."""
    kernel = library().kernel("roofline_read")
    if kernel is None:
        for _ in range(times):
            buffer.sum()
        return
    kernel(array(buffer, torch.float32, (-1,), "buffer"), size(len(buffer)), size(times), threads)

"""Who reads the `weight` of a packed layer: code that multiplies by it on its own gains nothing, and must be known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_watchers: list[list[nn.Module]] = []


def told_reading(layer: nn.Module) -> None:
    """Note that somebody reads this layer's weight."""
    for watcher in _watchers:
        watcher.append(layer)


@contextmanager
def reading_watched() -> Iterator[list[nn.Module]]:
    """The layers whose weights are read within this block."""
    found: list[nn.Module] = []
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers.remove(found)

"""The named methods."""

from __future__ import annotations

from pomona import registry
from pomona.vocabulary import Recipe


def methods() -> dict[str, Recipe]:
    """Every named method by name; `pomona methods` prints what is derived from them.

    >>> methods()["wanda"].needs
    frozenset({'data'})
    """
    return dict(sorted(registry.recipes().items()))

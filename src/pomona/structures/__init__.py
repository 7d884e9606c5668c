"""What lives or dies together: one structure a file; `structure` reads them from plain words, `named` says them."""

from pomona.structures.narrow import narrowed
from pomona.structures.text import named, structure

__all__ = ["named", "narrowed", "structure"]

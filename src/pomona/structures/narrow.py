"""A structure within the user's bounds: only these places, never those, and, if asked, only where pruning is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, cast

from pomona.structures.union import Union
from pomona.vocabulary import InputError, Structure


def narrowed(structure: Structure, only: Sequence[str] = (), keep: Sequence[str] = (), exact: bool = False) -> Structure:
    """The same structure with these bounds, down to the parts of a union; what it keeps of itself it goes on keeping.

    Structures of weights and of blocks are exact anyway. Raises InputError where a structure takes no patterns.

    >>> from pomona.structures import structure
    >>> narrowed(structure("heads+layers"), keep=["blocks.0"], exact=True).structures[1]
    Layers(only=(), keep=('blocks.0',))
    """
    if isinstance(structure, Union):
        return Union(tuple(cast(Any, narrowed(part, only, keep, exact)) for part in structure.structures))
    there = {entry.name for entry in fields(cast(Any, structure))}
    if (only or keep) and not {"only", "keep"} <= there:
        raise InputError(f"{type(structure).__name__} takes no patterns; leave out only and keep.")
    kept = (*getattr(structure, "keep", ()), *keep) if keep else ()
    asked: dict[str, Any] = {"only": tuple(only), "keep": kept, "exact": exact}
    return cast(
        Structure, replace(cast(Any, structure), **{name: value for name, value in asked.items() if value and name in there})
    )

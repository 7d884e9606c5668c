"""Which axes can be turned: an orthogonal matrix behind all that writes the axis and before all that reads it changes nothing.

That holds where every op between the two treats a vector on the axis as one thing: adds it to others of the axis, scales it by a
number, moves it about, takes its length. RMSNorm does, once its scale is in the weights that read it (Ashkboos et al., 2024,
"computational invariance"). LayerNorm does for matrices that leave the vector of ones alone, since its mean is the part along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pomona.graph.expr import Atom, Dims
from pomona.graph.op import Record
from pomona.graph.turning_ops import HANDLERS
from pomona.graph.turning_walk import Found, Walk, Where
from pomona.vocabulary import Axis
from pomona.vocabulary.sites import Place, Turning


def turned(axes: Mapping[str, Axis], named: Mapping[str, Atom], record: Record, dims: Mapping[str, Dims]) -> dict[str, Axis]:
    """The axes, each with how it can be turned or why it cannot."""
    whole = {name for name, axis in axes.items() if not any(m.buffer or m.index is not None for m in axis.members)}
    walk = Walk(record, dims, {atom: Found() for name, atom in named.items() if name in whole}, HANDLERS)
    walk.go()
    told = {name: _told(walk.found[atom], axes[name]) for name, atom in named.items() if name in whole}
    rest = "it is a part of other dimensions"
    return {name: replace(axis, turning=axis.frozen or told.get(name, rest)) for name, axis in axes.items()}


def _told(found: Found, axis: Axis) -> Turning | str:
    places: dict[tuple[str | None, str | None], list[Where]] = {}
    for reader, value in found.readers.items():
        places.setdefault((value.scale, value.shift), []).append(reader)
    vectors = {(name, 0) for pair in places for name in pair if name is not None}
    if found.stiff is None and not (found.writers and found.readers):
        found.stiff = "nothing but what is scaled writes or reads it"
    rest = {(m.tensor, m.dim or 0) for m in axis.members} - found.writers.keys() - found.readers.keys() - vectors
    if found.stiff is None and (rest or vectors & found.writers.keys()):
        found.stiff = f"{min(rest or vectors)[0]} takes part in a way that is not understood"
    if found.stiff is not None:
        return found.stiff
    tied = tuple(tensor for tensor, dim in found.readers if (tensor, dim) in found.writers)
    return Turning(tuple(found.writers), tuple(Place(tuple(r), *pair) for pair, r in places.items()), found.centred, tied)

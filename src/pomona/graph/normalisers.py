"""What makes an axis approximate: the ops that look across its units, and where they are."""

from __future__ import annotations

from torch import fx

from pomona.graph.expr import Atom, atoms
from pomona.graph.nodes import frames, name_of
from pomona.graph.op import Record


def normalisers(record: Record) -> dict[Atom, tuple[str, ...]]:
    """Atom -> every op under which its zeroed and its removed units are different functions, in the program's order.

    Reads like "layer_norm at blocks.3.norm1", or "sum in linear at fc2" where units enter a sum that are not zero when
    they are masked.
    """
    found: dict[Atom, dict[str, None]] = {}
    for node, over in record.normed.items():
        summed = atoms(*record.contracted.get(node, ()))
        for atom in atoms(*over):
            found.setdefault(atom, {})[_place(node, atom in summed)] = None
    return {atom: tuple(places) for atom, places in found.items()}


def _place(node: fx.Node, summed: bool) -> str:
    module, op = (frames(node) or [""])[-1], name_of(node).lstrip("_")
    told = f"sum in {op}" if summed and op != "sum" else op
    return f"{told} at {module}" if module else told

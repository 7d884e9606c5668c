"""How much of a model lies on axes that can be pruned."""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pomona.graph.expr import Atom, Const, Dims, Expr, Product, leaves, norm
from pomona.graph.terms import Rows
from pomona.vocabulary import Weight

if TYPE_CHECKING:
    from pomona.graph.graph import Graph


@dataclass(frozen=True)
class Shares:
    """Shares of the whole, from 0 to 1.

    `params` of the parameters and `macs` of the multiply-accumulates become fewer when prunable axes shrink;
    `macs_two_factors` shrink along two factors of their product, such as the rows and the columns of a weight;
    `macs_exact` along an axis over which no normaliser runs. `macs_two_widths` have two factors that are the model's own,
    prunable or not: depthwise convolutions have one, and so has what reads the input or writes the output of the model.
    """

    params: float
    macs: float
    macs_two_factors: float
    macs_exact: float
    macs_two_widths: float


def shares(graph: Graph, axes: Collection[str] | None = None) -> Shares:
    """What the prunable axes of a traced model (or only these) reach, without touching it.

    Of a concatenation only the part counts that can shrink. A model without multiply-accumulates has shares of 0.
    """
    free = {atom: graph.axes[name].exact for name, atom in graph.atoms.items() if axes is None or name in axes}
    params, _ = _reached(graph.polynomials.params, graph.polynomials.lengths, free.keys())
    macs, two = _reached(graph.polynomials.macs, graph.polynomials.lengths, free.keys())
    exact, _ = _reached(graph.polynomials.macs, graph.polynomials.lengths, {atom for atom, plain in free.items() if plain})
    return Shares(params, macs, two, exact, _two_widths(graph))


def _reached(rows: Rows, lengths: tuple[Expr, ...], free: Set[Atom]) -> tuple[float, float]:
    """The shares of the sum over all rows with at least one, and with at least two, factors that can shrink."""
    spared = 1 - np.array([0.0, *(_part(e, free) for e in lengths)])[rows.columns]
    value = rows.values(np.array([1.0, *(float(e.n) for e in lengths)]), {})
    nothing = spared.prod(1)
    others = np.stack([np.delete(spared, column, 1).prod(1) for column in range(spared.shape[1])], 1) if spared.size else spared
    once = ((1 - spared) * others).sum(1)
    return _share(value, 1 - nothing), _share(value, 1 - nothing - once)


def _two_widths(graph: Graph) -> float:
    """The share of what is no depthwise convolution, and neither reads the model's input nor writes its output."""
    macs = graph.macs_by_weight()
    one = sum(macs.get(w.tensor, 0) for w in graph.weights.values() if _has_one_width(w, graph.dims.get(w.tensor, ())))
    whole = sum(macs.values())
    return 1 - one / whole if whole else 0.0


def _has_one_width(weight: Weight, dims: Dims) -> bool:
    ends = [(dims[d], held) for d, held in ((weight.in_dim, "input"), (weight.out_dim, "output")) if d is not None and dims]
    return any(norm(e).n == 1 or all(isinstance(c, Const) and c.why == held for c in leaves(e)) for e, held in ends)


def _share(value: NDArray[np.float64], part: NDArray[np.float64]) -> float:
    total = float(value.sum())
    return float(np.clip((value * part).sum() / total, 0.0, 1.0)) if total else 0.0


def _part(e: Expr, free: Set[Atom]) -> float:
    """The share of the positions of a dimension that lie in a unit of a free atom."""
    e = norm(e)
    if isinstance(e, Atom):
        return float(e in free)
    if isinstance(e, Const):
        return 0.0
    parts = [_part(p, free) for p in e.parts]
    if isinstance(e, Product):
        return 1 - prod(1 - share for share in parts)
    return sum(p.n * share for p, share in zip(e.parts, parts, strict=True)) / e.n

"""Parameters, multiply-accumulates and activation bytes as polynomials in the sizes of the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from pomona.graph.expr import Atom, Const, Expr, norm, size
from pomona.graph.facts import Work


@dataclass(frozen=True)
class Costs:
    """Of one forward pass on the example inputs. `activation_bytes` are those of all results, views not counted."""

    params: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True, eq=False)
class Polynomials:
    """Sums of products, compiled: each row multiplies a fixed number, lengths by column, and the density of a tensor."""

    lengths: tuple[Expr, ...]
    params: Rows
    macs: Rows
    activations: Rows

    def at(self, sizes: Mapping[Atom, int], densities: Mapping[str, float]) -> Costs:
        """The costs when the atoms have these sizes and the tensors these shares of living elements."""
        now = np.array([1.0, *(size(e, sizes) for e in self.lengths)])
        params, macs = (float(rows.values(now, densities).sum()) for rows in (self.params, self.macs))
        return Costs(round(params), round(macs), round(float(self.activations.values(now, {}).sum())))

    def macs_by_weight(self, sizes: Mapping[Atom, int]) -> dict[str | None, int]:
        """Multiply-accumulates by the weight that causes them; None: products of activations."""
        values = self.macs.values(np.array([1.0, *(size(e, sizes) for e in self.lengths)]), {})
        found: dict[str | None, int] = {}
        for name, value in zip(self.macs.tensors, values.tolist(), strict=True):
            found[name] = found.get(name, 0) + round(value)
        return found


@dataclass(frozen=True, eq=False)
class Rows:
    """`fixed[r] * product of lengths[columns[r]]`, scaled by the density of `tensors[r]`."""

    fixed: NDArray[np.float64]
    columns: NDArray[np.int64]
    tensors: tuple[str | None, ...]

    def values(self, lengths: NDArray[np.float64], densities: Mapping[str, float]) -> NDArray[np.float64]:
        """One number a row."""
        found: NDArray[np.float64] = self.fixed * lengths[self.columns].prod(1)
        if densities:
            found = found * np.array([densities.get(t, 1.0) if t is not None else 1.0 for t in self.tensors])
        return found


def compiled(
    params: Mapping[str, Sequence[Expr]], work: Sequence[Work], activations: Sequence[tuple[int, Sequence[Expr]]]
) -> Polynomials:
    """Lengths that appear more than once are computed once; constants are multiplied into the fixed number."""
    table: dict[Expr, int] = {}
    rows = [
        _rows([(1, e, name) for name, e in params.items()], table),
        _rows([(1, w.factors, w.tensor) for w in work], table),
        _rows([(fixed, e, None) for fixed, e in activations], table),
    ]
    return Polynomials(tuple(table), *rows)


def _rows(terms: Sequence[tuple[int, Sequence[Expr], str | None]], table: dict[Expr, int]) -> Rows:
    fixed, columns = [], []
    for number, factors, _ in terms:
        normal = [norm(e) for e in factors]
        fixed.append(float(number * prod(e.n for e in normal if isinstance(e, Const))))
        columns.append([table.setdefault(e, len(table) + 1) for e in normal if not isinstance(e, Const)])
    width = max(map(len, columns), default=0)
    padded = np.array([c + [0] * (width - len(c)) for c in columns], dtype=np.int64).reshape(len(columns), width)
    return Rows(np.array(fixed), padded, tuple(name for _, _, name in terms))

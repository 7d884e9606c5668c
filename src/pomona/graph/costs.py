"""Parameters, multiply-accumulates and activation memory as polynomials in the sizes of the axes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.graph.expr import Atom, Expr
from pomona.graph.lives import Life
from pomona.graph.terms import Lengths, Rows, Term


@dataclass(frozen=True)
class Costs:
    """Of one forward pass on the example inputs.

    `activation_bytes` are those of all results, which is what a backward pass may need; `peak_bytes` are the most that
    live at the same time, which is what a forward pass alone needs. Both without parameters, inputs, views and what an
    op allocates for itself. `kv_bytes` are those of the keys and values of one token, which a decoder remembers.
    """

    params: int
    macs: int
    activation_bytes: int
    peak_bytes: int
    kv_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Polynomials:
    """What a model costs, as a function of the sizes of atoms. `lives` has (birth, death) of each row of `results`."""

    compiled: Lengths
    params: Rows
    macs: Rows
    results: Rows
    lives: NDArray[np.int64]
    carried: Rows
    cached: Rows

    @classmethod
    def of(cls, params: Sequence[Term], work: Sequence[Term], lives: Sequence[Life], cached: Sequence[Term] = ()) -> Polynomials:
        """Lengths that appear more than once are computed once."""
        table: dict[Expr, int] = {}
        results = [Term(life.bytes, life.dims, None, life.within) for life in lives]
        carried = [Term(life.bytes, life.dims, None, life.inside) for life in lives]
        rows = [Rows.of(terms, table) for terms in (params, work, results, carried, cached)]
        spans = np.array([(life.born, life.dies) for life in lives], dtype=np.int64).reshape(len(lives), 2)
        return cls(Lengths.of(tuple(table)), rows[0], rows[1], rows[2], spans, rows[3], rows[4])

    @property
    def lengths(self) -> tuple[Expr, ...]:
        """The expressions that the columns of rows count, from 1 on."""
        return self.compiled.exprs

    def at(self, sizes: Mapping[Atom, int], densities: Mapping[str, float], without: Collection[str] = ()) -> Costs:
        """The costs when atoms have these sizes and tensors these shares of living elements, `without` some blocks."""
        now = self.compiled.at(sizes)
        params, macs = (float(rows.values(now, densities, without).sum()) for rows in (self.params, self.macs))
        results = self.results.values(now, {}, without)
        # What a block hands on lives on when the block is left out: it is the block's input then.
        carried = self.carried.values(now, {}, without) if without else results
        cached = float(self.cached.values(now, {}, without).sum())
        return Costs(round(params), round(macs), round(float(results.sum())), round(self._peak(carried)), round(cached))

    def macs_by_weight(self, sizes: Mapping[Atom, int], without: Collection[str] = ()) -> dict[str | None, int]:
        """Multiply-accumulates by the weight that causes them; None: products of activations."""
        values = self.macs.values(self.compiled.at(sizes), {}, without)
        found: dict[str | None, int] = {}
        for name, value in zip(self.macs.tensors, values.tolist(), strict=True):
            found[name] = found.get(name, 0) + round(value)
        return found

    def _peak(self, sizes: NDArray[np.float64]) -> float:
        """The largest sum of what lives at one step."""
        if not len(sizes):
            return 0.0
        steps = int(self.lives.max()) + 2
        change = np.bincount(self.lives[:, 0], sizes, steps) - np.bincount(self.lives[:, 1] + 1, sizes, steps)
        return float(change.cumsum().max())

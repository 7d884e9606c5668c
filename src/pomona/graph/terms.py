"""Sums of products over the sizes of axes, compiled into arrays, so that a candidate costs microseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from pomona.graph.expr import Atom, Const, Expr, Product, norm


@dataclass(frozen=True, eq=False)
class Term:
    """A whole number times lengths; `tensor` scales it with its density, and it falls away with each module in `within`."""

    number: int
    factors: Sequence[Expr]
    tensor: str | None = None
    within: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Lengths:
    """Expressions written out as sums: `numbers[t] * product of full[factors[t]]` belongs to expression `owner[t]`.

    `full` has a one in front, then the whole size of each atom, whose place is in `columns`.
    """

    exprs: tuple[Expr, ...]
    columns: Mapping[Atom, int]
    full: NDArray[np.float64]
    numbers: NDArray[np.float64]
    factors: NDArray[np.int64]
    owner: NDArray[np.int64]

    @classmethod
    def of(cls, exprs: Sequence[Expr]) -> Lengths:
        """Expressions in normal form."""
        columns: dict[Atom, int] = {}
        written = [(number, key, product) for number, e in enumerate(exprs, 1) for product, key in _written_out(e).items()]
        places = [[columns.setdefault(atom, len(columns) + 1) for atom in product] for _, _, product in written]
        return cls(
            tuple(exprs),
            columns,
            np.array([1.0, *(float(atom.n) for atom in columns)]),
            np.array([float(count) for _, count, _ in written]),
            _padded(places),
            np.array([number for number, _, _ in written], dtype=np.int64),
        )

    def at(self, sizes: Mapping[Atom, int]) -> NDArray[np.float64]:
        """A one in front, then the length of each expression; atoms without a size are whole."""
        now = self.full.copy()
        for atom, units in sizes.items():
            if (column := self.columns.get(atom)) is not None:
                now[column] = units
        terms = self.numbers * now[self.factors].prod(1)
        values = np.bincount(self.owner, terms, len(self.exprs) + 1).astype(np.float64, copy=False)
        values[0] = 1.0
        return values


@dataclass(frozen=True, eq=False)
class Rows:
    """`fixed[r] * product of lengths[columns[r]]`, scaled by the density of `tensors[r]`."""

    fixed: NDArray[np.float64]
    columns: NDArray[np.int64]
    tensors: tuple[str | None, ...]
    within: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, terms: Sequence[Term], table: dict[Expr, int]) -> Rows:
        """Constants are multiplied into the fixed number; `table` gives every other length its column, from 1 on."""
        fixed, columns = [], []
        for term in terms:
            normal = [norm(e) for e in term.factors]
            fixed.append(float(term.number * prod(e.n for e in normal if isinstance(e, Const))))
            columns.append([table.setdefault(e, len(table) + 1) for e in normal if not isinstance(e, Const)])
        return cls(np.array(fixed), _padded(columns), tuple(t.tensor for t in terms), tuple(t.within for t in terms))

    def values(
        self, lengths: NDArray[np.float64], densities: Mapping[str, float], without: Collection[str] = ()
    ) -> NDArray[np.float64]:
        """One number a row; nothing in the modules `without`."""
        found: NDArray[np.float64] = self.fixed * lengths[self.columns].prod(1)
        if densities:
            found = found * np.array([densities.get(t, 1.0) if t is not None else 1.0 for t in self.tensors])
        if without:
            found = found * np.array([not any(module in without for module in modules) for modules in self.within])
        return found


def _written_out(e: Expr) -> dict[tuple[Atom, ...], int]:
    """Product of atoms -> how often it is counted."""
    if isinstance(e, Const):
        return {(): e.n}
    if isinstance(e, Atom):
        return {(e,): 1}
    parts = [_written_out(p) for p in e.parts]
    found: dict[tuple[Atom, ...], int] = {(): 1} if isinstance(e, Product) else {}
    for part in parts:
        if isinstance(e, Product):
            found = {a + b: m * n for a, m in found.items() for b, n in part.items()}
        else:
            for product, n in part.items():
                found[product] = found.get(product, 0) + n
    return found


def _padded(lists: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """One row a list, filled up with the place of the one."""
    width = max(map(len, lists), default=0)
    return np.array([[*row, *[0] * (width - len(row))] for row in lists], dtype=np.int64).reshape(len(lists), width)

"""Dimensions as expressions: what they are made of, how long they are, and where their parts lie.

A dimension is a constant, an atom (a free axis), a row-major product (`view`, heads x head width) or a sum (`cat`).
Equality is union-find: an atom that was found equal to something is bound to it. Frozen is not a flag but being bound
to a `Const`, which carries the reason.

>>> heads, width = Atom(4), Atom(8)
>>> rows = sum_of((product_of((heads, width)), Const(2, "two extra rows")))
>>> rows.n, size(rows, {heads: 3})
(34, 26)
>>> index(product_of((Atom(2), width)), {width: torch.tensor([0, 5])}).tolist()
[0, 5, 8, 13]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

UNEXPLAINED = "constant"  # the reason of constants that nobody has to answer for: batch, positions, ones


@dataclass(eq=False)
class Const:
    """A length that cannot change, and why. Equal reasons from one cause are one object, so that they group."""

    n: int
    why: str = UNEXPLAINED

    def __repr__(self) -> str:
        return str(self.n)


@dataclass(eq=False)
class Atom:
    """A free axis of n units; bound once it is found equal to another expression of the same length."""

    n: int
    bound: Expr | None = None

    def __repr__(self) -> str:
        return f"<{self.n}>" if self.bound is None else repr(self.bound)


@dataclass(frozen=True, eq=False)
class Product:
    """Row-major: the last part runs fastest."""

    parts: tuple[Expr, ...]
    n: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", prod(p.n for p in self.parts))

    def __repr__(self) -> str:
        return "(" + "*".join(map(repr, self.parts)) + ")"


@dataclass(frozen=True, eq=False)
class Sum:
    """One part after the other."""

    parts: tuple[Expr, ...]
    n: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", sum(p.n for p in self.parts))

    def __repr__(self) -> str:
        return "[" + "+".join(map(repr, self.parts)) + "]"


Expr: TypeAlias = Const | Atom | Product | Sum
Dims: TypeAlias = tuple[Expr, ...]  # of one tensor
Keep: TypeAlias = Mapping[Atom, Tensor]  # kept units of an atom, ascending int64


def fresh(n: int) -> Expr:
    """A new atom; lengths 0 and 1 have nothing to choose from and are constants."""
    return Atom(n) if n > 1 else Const(n)


def norm(e: Expr) -> Expr:
    """The expression with every binding followed, nested products and sums flattened, neighbouring constants merged."""
    if isinstance(e, Const):
        return e
    if isinstance(e, Atom):
        if e.bound is None:
            return e
        e.bound = norm(e.bound)
        return e.bound
    parts = tuple(norm(p) for p in e.parts)
    if all(new is old for new, old in zip(parts, e.parts, strict=True)):
        return e
    return product_of(parts) if isinstance(e, Product) else sum_of(parts)


def product_of(parts: Iterable[Expr]) -> Expr:
    """The normal form of a product: no ones, no product inside, no two neighbouring constants."""
    flat = [q for p in map(norm, parts) for q in (p.parts if isinstance(p, Product) else (p,))]
    if any(p.n == 0 for p in flat):
        return Const(0)
    kept: list[Expr] = []
    for p in flat:
        last = kept[-1] if kept else None
        if p.n == 1:
            continue
        if isinstance(p, Const) and isinstance(last, Const):
            kept[-1] = Const(last.n * p.n, _reason(last, p))
        else:
            kept.append(p)
    return kept[0] if len(kept) == 1 else Product(tuple(kept)) if kept else Const(1)


def sum_of(parts: Iterable[Expr]) -> Expr:
    """The normal form of a sum: no zeros, no sum inside, no two neighbouring constants."""
    flat = [q for p in map(norm, parts) for q in (p.parts if isinstance(p, Sum) else (p,))]
    kept: list[Expr] = []
    for p in flat:
        last = kept[-1] if kept else None
        if p.n == 0:
            continue
        if isinstance(p, Const) and isinstance(last, Const):
            kept[-1] = Const(last.n + p.n, _reason(last, p))
        else:
            kept.append(p)
    return kept[0] if len(kept) == 1 else Sum(tuple(kept)) if kept else Const(0)


def _reason(a: Const, b: Const) -> str:
    return b.why if a.why == UNEXPLAINED else a.why


def freeze(e: Expr, why: str) -> None:
    """Bind every atom of the expression to a constant."""
    for leaf in leaves(e):
        if isinstance(leaf, Atom) and leaf.bound is None:
            leaf.bound = Const(leaf.n, why)


def leaves(e: Expr) -> list[Const | Atom]:
    """The atoms and constants of an expression from left to right; an atom may appear more than once."""
    e = norm(e)
    return [e] if isinstance(e, (Const, Atom)) else [leaf for p in e.parts for leaf in leaves(p)]


def atoms(*es: Expr) -> dict[Atom, None]:
    """The free atoms of some expressions, each once, in order."""
    return {leaf: None for e in es for leaf in leaves(e) if isinstance(leaf, Atom)}


def size(e: Expr, keep: Mapping[Atom, Tensor] | Mapping[Atom, int]) -> int:
    """The length that is left when of each atom only so many units (or: these units) are kept."""
    e = norm(e)
    if isinstance(e, Const):
        return e.n
    if isinstance(e, Atom):
        kept = keep.get(e, e.n)
        return kept if isinstance(kept, int) else len(kept)
    parts = [size(p, keep) for p in e.parts]
    return prod(parts) if isinstance(e, Product) else sum(parts)


def index(e: Expr, keep: Keep) -> Tensor:
    """The positions along the dimension that stay, ascending int64."""
    e = norm(e)
    if isinstance(e, Const):
        return torch.arange(e.n)
    if isinstance(e, Atom):
        kept = keep.get(e)
        return torch.arange(e.n) if kept is None else kept
    if isinstance(e, Sum):
        return torch.cat([index(p, keep) + start for p, start in zip(e.parts, _starts(e), strict=True)])
    found = torch.zeros(1, dtype=torch.int64)
    for p in e.parts:
        found = (found[:, None] * p.n + index(p, keep)).flatten()
    return found


def take(tensor: Tensor, dims: Dims, keep: Keep) -> Tensor:
    """The kept entries along every dimension."""
    for dim, e in enumerate(dims):
        kept = index(e, keep)
        if len(kept) != tensor.shape[dim]:
            tensor = tensor.index_select(dim, kept.to(tensor.device))
    return tensor


def positions(e: Expr, atom: Atom) -> Tensor:
    """Where unit u of the atom lies along the dimension: int64 (units, positions per unit), ascending in each row."""
    return places(e)[atom]


def places(e: Expr) -> dict[Atom, Tensor]:
    """The positions of every atom of a dimension, worked out together."""
    found: dict[Atom, list[Tensor]] = {}
    for atom, where, unit in _occurrences(norm(e)):
        found.setdefault(atom, []).append(unit * e.n + where)
    # Sorted codes of (unit, position); an atom squared meets its own unit on the diagonal: count it once.
    codes = {atom: torch.unique(torch.cat(several)) for atom, several in found.items()}
    return {atom: torch.remainder(code, e.n).view(atom.n, -1) for atom, code in codes.items()}


def _occurrences(e: Expr) -> Iterator[tuple[Atom, Tensor, Tensor]]:
    """(atom, positions, unit of the atom there) for each place of an atom in the expression."""
    if isinstance(e, Atom):
        yield e, torch.arange(e.n), torch.arange(e.n)
    elif isinstance(e, Sum):
        for p, start in zip(e.parts, _starts(e), strict=True):
            yield from ((atom, where + start, unit) for atom, where, unit in _occurrences(p))
    elif isinstance(e, Product):
        for number, p in enumerate(e.parts):
            inner = prod(q.n for q in e.parts[number + 1 :])
            outer = torch.arange(e.n // (p.n * inner)) * (p.n * inner)
            for atom, where, unit in _occurrences(p):
                every = outer[:, None, None] + where[:, None] * inner + torch.arange(inner)
                yield atom, every.flatten(), unit[:, None].expand_as(every[0]).expand_as(every).flatten()


def _starts(e: Sum) -> list[int]:
    return list(accumulate((p.n for p in e.parts[:-1]), initial=0))

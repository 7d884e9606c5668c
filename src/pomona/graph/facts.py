"""What a rule found out about an op beyond the dimensions of its output: what surgery must rewrite, what costs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pomona.graph.expr import Expr
from pomona.vocabulary.sites import Convolution, WeightKind


@dataclass(frozen=True, eq=False)
class Piece:
    """A slice with step 1: `length` positions along `dim` after the first `start`."""

    dim: int
    start: Expr
    length: Expr


@dataclass(frozen=True, eq=False)
class Pieces:
    """A split or chunk along `dim` into consecutive pieces."""

    dim: int
    lengths: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Groups:
    """The number of groups of a grouped convolution or a GroupNorm."""

    groups: Expr


@dataclass(frozen=True, eq=False)
class HeadSize:
    """The head width that a fused attention divides by the root of, unless it is told a scale."""

    size: int


@dataclass(frozen=True, eq=False)
class Counted:
    """An op that is told how many classes there are, because it makes a dimension of them (`one_hot`, `histc`)."""

    classes: Expr


@dataclass(frozen=True, eq=False)
class Numbers:
    """Outputs whose values are positions along a dimension (`topk`); None for the others."""

    along: tuple[Expr | None, ...]


Fact: TypeAlias = Piece | Pieces | Groups | HeadSize | Counted | Numbers


@dataclass(frozen=True, eq=False)
class Work:
    """Multiply-accumulates of an op: the product of the factors. `tensor` is the parameter that the op reads, if any."""

    factors: tuple[Expr, ...]
    tensor: str | None


@dataclass(frozen=True)
class Use:
    """One op that reads a parameter; the dimensions are those of the parameter itself, whatever views lie between."""

    tensor: str
    kind: WeightKind
    out_dim: int | None = None
    in_dim: int | None = None
    conv: Convolution | None = None
    bias: str | None = None

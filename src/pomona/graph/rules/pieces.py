"""Parts of a dimension: slices, chunks, single positions."""

from __future__ import annotations

from collections.abc import Sequence

from pomona.graph.algebra import cut, freeze_to, reshape
from pomona.graph.expr import Const, Expr, freeze, norm
from pomona.graph.facts import Piece, Pieces
from pomona.graph.op import Op, Result, rule


@rule("split", "chunk", "split_with_sizes", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(op: Op) -> Result:
    """Consecutive pieces."""
    x = op.input
    d = op.axis(x)
    op.parts()
    return _pieces(op, x, d, [v.shape[d] for v in op.value])


@rule("slice", "slice_copy")
def sliced(op: Op) -> Result:
    """A run of positions; with a stride that divides, a factor is fixed."""
    x = op.input
    d, length = op.axis(x), x[op.axis(x)].n
    start, end, step = (op.args.get(word) for word in ("start", "end", "step"))
    first, last, stride = _clip(start or 0, length), _clip(length if end is None else end, length), step or 1
    if stride == 1:
        return _run(op, x, d, first, max(0, last - first))
    if length % stride == 0 and first < stride and last == length:
        outer, inner = reshape((x[d],), (length // stride, stride))
        freeze(inner, "every n-th position")
        x[d] = norm(outer)
    else:
        freeze(x[d], "every n-th position")
        x[d] = Const(op.shape[d], "every n-th position")
    return [norm(e) for e in x]


@rule("narrow")
def narrow(op: Op) -> Result:
    """A run of positions."""
    x = op.input
    d = op.axis(x)
    op.parts()
    return _run(op, x, d, _clip(op.args["start"], x[d].n), op.args["length"])


@rule("select")
def select(op: Op) -> Result:
    """One position."""
    x = op.input
    d = op.axis(x)
    freeze_to(x[d], [int(op.args["index"])], "a single position is picked")
    del x[d]
    return [norm(e) for e in x]


@rule("unbind")
def unbind(op: Op) -> Result:
    """Every position by itself."""
    x = op.input
    d = op.axis(x)
    count = x[d].n
    freeze(x[d], "taken apart by position")
    del x[d]
    return tuple([norm(e) for e in x] for _ in range(count))


def _run(op: Op, x: list[Expr], d: int, start: int, length: int) -> list[Expr]:
    before, rest = cut(x[d], start)
    piece, _ = cut(rest, length)
    op.tell(Piece(d, before, piece))
    x[d] = norm(piece)
    return [norm(e) for e in x]


def _pieces(op: Op, x: list[Expr], d: int, lengths: Sequence[int]) -> Result:
    found: list[Expr] = []
    rest = x[d]
    for length in lengths[:-1]:
        head, rest = cut(rest, length)
        found.append(head)
    found.append(rest)
    op.tell(Pieces(d, tuple(found)))
    return tuple([norm(p) if i == d else norm(e) for i, e in enumerate(x)] for p in found)


def _clip(position: int, length: int) -> int:
    return max(0, min(position + length if position < 0 else position, length))

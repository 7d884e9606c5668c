"""What it means for two dimensions to be equal, and how a dimension is cut and folded.

Sizes never change here: a proper part of an expression is shorter than the whole, so binding needs no occurs check.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd

from pomona.graph.expr import Atom, Const, Dims, Expr, Product, Sum, freeze, fresh, norm, product_of, sum_of


class Misfit(Exception):
    """A rule met something that it does not understand; the walk freezes the op and says so."""


def unify(x: Expr, y: Expr) -> None:
    """From now on both are one dimension. Raises Misfit when the lengths differ."""
    x, y = norm(x), norm(y)
    if x is y:
        return
    if x.n != y.n:
        raise Misfit(f"lengths {x.n} and {y.n} cannot be equal")
    if isinstance(x, Const):
        _fix(y, x)
    elif isinstance(y, Const):
        _fix(x, y)
    elif isinstance(x, Atom):
        x.bound = y
    elif isinstance(y, Atom):
        y.bound = x
    elif isinstance(x, Product) and isinstance(y, Product):
        _align(list(x.parts), list(y.parts))
    else:
        rest: Expr
        segments, rest = (x, y) if isinstance(x, Sum) else (y, x)
        for segment in segments.parts:
            head, rest = cut(rest, segment.n)
            unify(segment, head)


def _fix(e: Expr, constant: Const) -> None:
    """Freeze `e`; a whole atom shares the constant itself, so that what froze together stays together."""
    if isinstance(e, Atom):
        e.bound = constant
    else:
        freeze(e, constant.why)


def _front(queue: list[Expr]) -> Expr | None:
    """The first factor of a queue of factors, unfolded and without ones; None when the queue is empty."""
    while queue:
        e = norm(queue[0])
        queue[0:1] = list(e.parts) if isinstance(e, Product) else [e] if e.n != 1 else []
        if queue and queue[0] is e:
            return e
    return None


def _align(xs: list[Expr], ys: list[Expr]) -> None:
    """Unify two products factor by factor from the left, splitting the longer one."""
    while (x := _front(xs)) is not None and (y := _front(ys)) is not None:
        if x.n == y.n:
            del xs[0], ys[0]
            unify(x, y)
        elif x.n % y.n == 0:
            xs[0:1] = split(x, y.n)
        elif y.n % x.n == 0:
            ys[0:1] = split(y, x.n)
        elif (common := _common(x, y)) > 1:
            xs[0:1], ys[0:1] = split(x, common), split(y, common)
        else:
            _freeze_middle(*_block(xs, ys))


def _block(xs: list[Expr], ys: list[Expr]) -> tuple[list[Expr], list[Expr]]:
    """Take from the left of both until the products are equal."""
    a = b = 1
    taken: tuple[list[Expr], list[Expr]] = [], []
    while a != b or a == 1:
        which = int(a > b)
        e = norm((xs, ys)[which].pop(0))
        a, b = (a, b * e.n) if which else (a * e.n, b)
        taken[which].append(e)
    return taken


def _common(x: Expr, y: Expr) -> int:
    """The largest factor that two factors of unequal length share; one where they are no atoms."""
    return gcd(x.n, y.n) if not isinstance(x, (Product, Sum)) and not isinstance(y, (Product, Sum)) else 1


def _freeze_middle(xs: list[Expr], ys: list[Expr]) -> None:
    """Unify what two factorings have in common on the right, and freeze the rest: 3 x 4 and 2 x 6 are 6 x 2 and 6 x 2."""
    common = _common(norm(xs[-1]), norm(ys[-1]))
    if common > 1:
        (xs[-1], x), (ys[-1], y) = (split(e[-1], e[-1].n // common) for e in (xs, ys))
        unify(x, y)
    for e in (*xs, *ys):
        freeze(e, "two factorings that do not align")


def cut(e: Expr, k: int) -> tuple[Expr, Expr]:
    """The first k positions and the rest."""
    e = norm(e)
    if k == 0 or k == e.n:
        return (e, Const(0)) if k else (Const(0), e)
    if isinstance(e, Const):
        return Const(k, e.why), Const(e.n - k, e.why)
    if isinstance(e, Atom):
        head, tail = fresh(k), fresh(e.n - k)
        e.bound = sum_of((head, tail))
        return head, tail
    return _cut_sum(e, k) if isinstance(e, Sum) else _cut_product(e, k)


def _cut_sum(e: Sum, k: int) -> tuple[Expr, Expr]:
    heads: list[Expr] = []
    tails = list(e.parts)
    while k:
        part = tails.pop(0)
        head, tail = cut(part, min(k, part.n))
        heads.append(head)
        k -= head.n
        if tail.n:
            tails.insert(0, tail)
    return sum_of(heads), sum_of(tails)


def _cut_product(e: Product, k: int) -> tuple[Expr, Expr]:
    outer, inner = norm(e.parts[0]), product_of(e.parts[1:])
    blocks, left = divmod(k, inner.n)
    if not left:
        head, tail = cut(outer, blocks)
        return product_of((head, inner)), product_of((tail, inner))
    if not isinstance(outer, Const):
        freeze(e, "cut inside a product")
        return Const(k, "cut inside a product"), Const(e.n - k, "cut inside a product")
    # A constant number of blocks: unroll the one that the cut goes through.
    head, tail = cut(inner, left)
    before, after = (Const(n, outer.why) for n in (blocks, outer.n - blocks - 1))
    return sum_of((product_of((before, inner)), head)), sum_of((tail, product_of((after, inner))))


def freeze_to(e: Expr, positions: Sequence[int], why: str) -> None:
    """Freeze what must not change for these positions, counted from the end where they are negative, to stay what they are.

    Of a concatenation these are the parts up to the farthest one from its end; otherwise the whole.
    """
    e = norm(e)
    front, back = max((p + 1 for p in positions if p >= 0), default=0), max((-p for p in positions if p < 0), default=0)
    start = 0
    for part in e.parts if isinstance(e, Sum) else (e,):
        if start < front or start + part.n > e.n - back:
            freeze(part, why)
        start += part.n


def split(e: Expr, outer: int) -> tuple[Expr, Expr]:
    """(outer, inner) of a view of n positions as outer x n / outer."""
    e = norm(e)
    inner, left = divmod(e.n, outer)
    if left:
        raise Misfit(f"{e.n} cannot be split into {outer} parts")
    if outer == 1 or inner == 1:
        return (e, Const(1)) if inner == 1 else (Const(1), e)
    if isinstance(e, Const):
        return Const(outer, e.why), Const(inner, e.why)
    if isinstance(e, Atom):
        o, i = fresh(outer), fresh(inner)
        e.bound = product_of((o, i))
        return o, i
    if isinstance(e, Product):
        o, i = reshape((e,), (outer, inner))
        return o, i
    return _split_sum(e, inner)


def _split_sum(e: Sum, inner: int) -> tuple[Expr, Expr]:
    """Split a concatenation block by block; all blocks turn out alike inside. Views of `cat` and channel shuffle live here."""
    outers: list[Expr] = []
    inners: list[Expr] = []
    rest = list(e.parts)
    while rest:
        segment = norm(rest[0])
        if segment.n % inner == 0:
            del rest[0]
            o, i = split(segment, segment.n // inner)
        else:
            i, tail = cut(sum_of(rest), inner)
            o, tail = Const(1), norm(tail)
            rest = list(tail.parts) if isinstance(tail, Sum) else [tail] if tail.n else []
        outers.append(o)
        inners.append(i)
    for i in inners[1:]:
        unify(inners[0], i)
    return sum_of(outers), norm(inners[0])


def reshape(dims: Iterable[Expr], shape: Sequence[int]) -> Dims:
    """The dimensions of a view: factors are dealt out in order, and split where the new shape cuts them.

    Dimensions and shape are paired into the smallest blocks of equal product; a block that does not align (9 x 4 -> 4 x 9)
    is frozen but for what both share at its ends, the others are not.
    """
    queue = [e for d in dims if (e := norm(d)).n != 1]
    if any(n == 0 for n in shape) or any(e.n == 0 for e in queue):
        return tuple(Const(n) for n in shape)
    out: list[Expr] = [Const(1)] * len(shape)
    wanted = [(place, n) for place, n in enumerate(shape) if n != 1]
    while wanted:
        a = b = 1
        given: list[Expr] = []
        places: list[tuple[int, int]] = []
        while a != b or a == 1:
            if a <= b:
                if not queue:
                    raise Misfit(f"a view to {tuple(shape)} runs out of positions")
                given.append(queue.pop(0))
                a *= given[-1].n
            else:
                if not wanted:
                    raise Misfit(f"a view to {tuple(shape)} leaves positions over")
                places.append(wanted.pop(0))
                b *= places[-1][1]
        for (place, _), e in zip(places, _deal(given, [n for _, n in places]), strict=True):
            out[place] = e
    return tuple(out)


def _deal(given: Sequence[Expr], sizes: Sequence[int]) -> list[Expr]:
    queue, out = list(given), list[Expr]()
    for n in sizes:
        taken: list[Expr] = []
        while n > 1:
            e = _front(queue)
            assert e is not None  # the products are equal
            if n % e.n == 0:
                taken.append(queue.pop(0))
                n //= e.n
            elif e.n % n == 0:
                queue[0:1] = split(e, n)
            else:
                return [*out, *_deal_ends(taken, queue, [n, *sizes[len(out) + 1 :]])]
        out.append(product_of(taken))
    return out


def _deal_ends(taken: Sequence[Expr], queue: list[Expr], sizes: list[int]) -> list[Expr]:
    """Where factors do not align with the lengths of a view: what they share at both ends is dealt, the middle frozen.

    8 x 6 seen as 12 x 4 is 4 x 6 x 2 in the memory that both lie in: blocks of 12 positions and every second one can still go.
    """
    why = "a view that does not align"
    outer = gcd(queue[0].n, sizes[0])
    head: list[Expr] = list(taken)
    if outer > 1 and not isinstance(queue[0], Sum):
        first, queue[0] = split(queue[0], outer)
        head.append(first)
        sizes[0] //= outer
    last = norm(queue[-1])
    shared = gcd(last.n, sizes[-1])
    tail: Expr = Const(1)
    if shared > 1 and isinstance(last, (Atom, Const)):
        queue[-1], tail = split(last, last.n // shared)
        sizes[-1] //= shared
    for e in queue:
        freeze(e, why)
    middle: list[Expr] = [Const(k, why) for k in sizes]
    return [product_of((*head, middle[0])), *middle[1:-1], product_of((middle[-1], tail))]

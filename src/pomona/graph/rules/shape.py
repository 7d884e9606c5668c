"""Views, permutations, concatenations."""

from __future__ import annotations

from pomona.graph.algebra import Misfit, reshape, unify
from pomona.graph.expr import Const, fresh, norm, product_of, sum_of
from pomona.graph.rule import Op, Result, rule


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "reshape_as", "view_as", "ravel", "_reshape_alias")
def view(op: Op) -> Result:
    """Factors are dealt out in order."""
    if op.first and op.name == "view" and op.given.get("dtype") is not None:
        raise Misfit("a view as another dtype")
    return list(reshape(op.first, op.shape))


@rule("permute")
def permute(op: Op) -> Result:
    """Dimensions in another order."""
    x = op.first
    return [x[d] for d in op.given["dims"]]


@rule("transpose", "transpose_", "swapaxes", "swapdims")
def transpose(op: Op) -> Result:
    """Two dimensions change places."""
    x = op.first
    i, j = (op.given[word] for word in (("dim0", "dim1") if "dim0" in op.given else ("axis0", "axis1")))
    x[i], x[j] = x[j], x[i]
    return x


@rule("movedim", "moveaxis")
def movedim(op: Op) -> Result:
    """Dimensions go to other places."""
    x = op.first
    words = ("source", "destination")
    source, target = ([d % len(x) for d in ([v] if isinstance(v := op.given[w], int) else v)] for w in words)
    rest = [e for d, e in enumerate(x) if d not in source]
    for where, what in sorted(zip(target, source, strict=True)):
        rest.insert(where, x[what])
    return rest


@rule("t", "numpy_T", "mT", "adjoint", "matrix_H")
def turned(op: Op) -> Result:
    """The last two, or all, in reverse."""
    x = op.first
    return x[::-1] if op.name in ("t", "numpy_T") else [*x[:-2], x[-1], x[-2]]


@rule("unsqueeze", "unsqueeze_")
def unsqueeze(op: Op) -> Result:
    """A one is put in."""
    x = op.first
    x.insert(op.given["dim"] % (len(x) + 1), Const(1))
    return x


@rule("squeeze", "squeeze_")
def squeeze(op: Op) -> Result:
    """Ones are taken out."""
    x = op.first
    given = op.given.get("dim")
    over = range(len(x)) if given is None else [d % len(x) for d in ([given] if isinstance(given, int) else given)]
    return [e for d, e in enumerate(x) if not (d in over and e.n == 1)]


@rule("expand", "expand_as", "broadcast_to")
def expand(op: Op) -> Result:
    """A one that is spread has no units of its own: the new length is free, which makes kv groups times heads of GQA."""
    x = op.first
    x = [Const(1)] * (len(op.shape) - len(x)) + x
    if (other := op.maybe("other")) is not None:
        return [f if e.n == 1 else e for e, f in zip(x, other, strict=True)]
    return [fresh(k) if e.n == 1 else e for e, k in zip(x, op.shape, strict=True)]


@rule("cat", "concat", "concatenate")
def cat(op: Op) -> Result:
    """A sum along one dimension, equality along the others; empty tensors count for nothing."""
    parts = [d for t in op.given["tensors"] if not (len(d := op.dims(t)) == 1 and d[0].n == 0)]
    where = op.axis(parts[0])
    for part in parts[1:]:
        for d, (e, f) in enumerate(zip(parts[0], part, strict=True)):
            if d != where:
                unify(e, f)
    return [sum_of(p[d] for p in parts) if d == where else norm(e) for d, e in enumerate(parts[0])]


@rule("stack")
def stack(op: Op) -> Result:
    """A new dimension that counts the tensors."""
    out = op.broadcast([op.dims(t) for t in op.given["tensors"]])
    out.insert((op.given["dim"] or 0) % (len(out) + 1), Const(len(op.given["tensors"]), "stacked tensors"))
    return out


@rule("repeat", "tile")
def repeat(op: Op) -> Result:
    """The count runs outside."""
    x, counts = op.first, list(op.given.get("repeats") or op.given.get("dims") or ())
    counts = [1] * (len(x) - len(counts)) + counts
    x = [Const(1)] * (len(counts) - len(x)) + x
    return [product_of((Const(k, "repeated"), e)) for k, e in zip(counts, x, strict=True)]


@rule("repeat_interleave")
def repeat_interleave(op: Op) -> Result:
    """The count runs inside."""
    x, count = op.first, op.given.get("repeats")
    if not isinstance(count, int) or op.given.get("dim") is None:
        raise Misfit("repeats that are data")
    d = op.axis(x)
    x[d] = product_of((x[d], Const(count, "repeated")))
    return x

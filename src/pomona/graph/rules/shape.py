"""Views, permutations, concatenations."""

from __future__ import annotations

from pomona.graph.algebra import Misfit, cut, reshape, unify
from pomona.graph.expr import Const, freeze, fresh, norm, product_of, sum_of
from pomona.graph.op import Op, Result, broadcast, rule


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "reshape_as", "view_as", "ravel", "_reshape_alias")
def view(op: Op) -> Result:
    """Factors are dealt out in order."""
    if op.input and op.name == "view" and op.args.get("dtype") is not None:
        raise Misfit("a view as another dtype")
    return list(reshape(op.input, op.shape))


@rule("permute")
def permute(op: Op) -> Result:
    """Dimensions in another order."""
    return _ordered(op, [d % len(op.input) for d in op.args["dims"]])


@rule("transpose", "transpose_", "swapaxes", "swapdims")
def transpose(op: Op) -> Result:
    """Two dimensions change places."""
    x = op.input
    i, j = (op.args[word] for word in (("dim0", "dim1") if "dim0" in op.args else ("axis0", "axis1")))
    order = list(range(len(x)))
    order[i], order[j] = order[j], order[i]
    return _ordered(op, order)


@rule("movedim", "moveaxis")
def movedim(op: Op) -> Result:
    """Dimensions go to other places."""
    x = op.input
    given = (op.args["source"], op.args["destination"])
    source, target = ([d % len(x) for d in ([v] if isinstance(v, int) else v)] for v in given)
    rest = [e for d, e in enumerate(x) if d not in source]
    for where, what in sorted(zip(target, source, strict=True)):
        rest.insert(where, x[what])
    return rest


@rule("t", "numpy_T", "mT", "adjoint", "matrix_H")
def turned(op: Op) -> Result:
    """The last two, or all, in reverse."""
    order = list(range(len(op.input)))
    return _ordered(op, order[::-1] if op.name in ("t", "numpy_T") else [*order[:-2], order[-1], order[-2]])


def _ordered(op: Op, order: list[int]) -> Result:
    op.carries(order)
    return [op.input[d] for d in order]


@rule("view_as_complex", "view_as_real")
def paired(op: Op) -> Result:
    """Numbers in pairs: the last dimension goes, or comes."""
    x = op.input
    if op.name == "view_as_real":
        return [*x, Const(2, "a complex number")]
    freeze(x[-1], "a complex number")
    return [norm(e) for e in x[:-1]]


@rule("unsqueeze", "unsqueeze_")
def unsqueeze(op: Op) -> Result:
    """A one is put in."""
    x = op.input
    x.insert(op.args["dim"] % (len(x) + 1), Const(1))
    return x


@rule("squeeze", "squeeze_")
def squeeze(op: Op) -> Result:
    """Ones are taken out."""
    x = op.input
    given = op.args.get("dim")
    over = range(len(x)) if given is None else [d % len(x) for d in ([given] if isinstance(given, int) else given)]
    return [e for d, e in enumerate(x) if not (d in over and e.n == 1)]


@rule("expand", "expand_as", "broadcast_to")
def expand(op: Op) -> Result:
    """A one that is spread has no units of its own: the new length is free, which makes kv groups times heads of GQA."""
    x = op.input
    x = [Const(1)] * (len(op.shape) - len(x)) + x
    if (other := op.maybe("other")) is not None:
        return broadcast((x, other))
    return [fresh(k) if e.n == 1 else e for e, k in zip(x, op.shape, strict=True)]


@rule("cat", "concat", "concatenate")
def cat(op: Op) -> Result:
    """A sum along one dimension, equality along the others; empty tensors count for nothing."""
    parts = [d for d in map(op.dims, op.args["tensors"]) if [e.n for e in d] != [0]]
    where = op.axis(parts[0])
    for part in parts[1:]:
        for place, (e, f) in enumerate(zip(parts[0], part, strict=True)):
            if place != where:
                unify(e, f)
    return [sum_of(p[place] for p in parts) if place == where else norm(e) for place, e in enumerate(parts[0])]


@rule("glu")
def glu(op: Op) -> Result:
    """One half times the sigmoid of the other."""
    x = op.input
    d = int(op.args["dim"]) % len(x)
    value, gate = cut(x[d], x[d].n // 2)
    unify(value, gate)
    return [norm(value) if place == d else norm(e) for place, e in enumerate(x)]


@rule("stack")
def stack(op: Op) -> Result:
    """A new dimension that counts the tensors."""
    out = broadcast([op.dims(t) for t in op.args["tensors"]])
    out.insert((op.args["dim"] or 0) % (len(out) + 1), Const(len(op.args["tensors"]), "stacked tensors"))
    return out


@rule("tril", "triu", "tril_", "triu_")
def triangle(op: Op) -> Result:
    """Rows and columns that are thinned alike keep their order, so what lies above or below the diagonal stays there."""
    x = op.input
    kept = (0, -1) if op.name.startswith("tril") else (0, 1)
    if x[-1].n == x[-2].n and op.args["diagonal"] in kept:
        unify(x[-1], x[-2])
    else:
        freeze(x[-1], "positions beside a diagonal")
        freeze(x[-2], "positions beside a diagonal")
    return op.input


@rule("repeat", "tile")
def repeat(op: Op) -> Result:
    """The count runs outside. A one that is repeated has no units of its own, as in `expand`."""
    x, counts = op.input, list(op.args.get("repeats") or op.args.get("dims") or ())
    counts = [1] * (len(x) - len(counts)) + counts
    x = [Const(1)] * (len(counts) - len(x)) + x
    return [fresh(k) if e.n == 1 else product_of((Const(k, "repeated"), e)) for k, e in zip(counts, x, strict=True)]


@rule("repeat_interleave")
def repeat_interleave(op: Op) -> Result:
    """The count runs inside."""
    x, count = op.input, op.args.get("repeats")
    if not isinstance(count, int) or op.args.get("dim") is None:
        raise Misfit("repeats that are data")
    d = op.axis(x)
    x[d] = product_of((x[d], Const(count, "repeated")))
    return x

"""Ops that contract a dimension: matrix products of every spelling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pomona.graph.algebra import unify
from pomona.graph.expr import Const, Expr, norm
from pomona.graph.op import Op, Result, broadcast, rule

_ALIGNMENT = 16  # bytes of a row of `_grouped_mm`, as TMA loads them


@rule("linear")
def linear(op: Op) -> Result:
    """The product x W^T + b; the leading dimensions are factors of the work, too."""
    x, w = op.dims("input"), op.dims("weight")
    unify(x[-1], w[1])
    op.contracts((w[1],))
    bias = None
    if op.maybe("bias") is not None:
        unify(w[0], op.dims("bias")[0])
        bias = op.reads(op.args["bias"], "bias")
    tensor = op.reads(op.args["weight"], "linear", 0, 1, bias=bias)
    op.works((*x[:-1], *w), tensor)
    return (*op.dims("input")[:-1], norm(w[0]))


@rule("addmm")
def addmm(op: Op) -> Result:
    """The product b + x W with W stored (in, out), as GPT-2 does."""
    b, x, w = op.dims("self"), op.dims("mat1"), op.dims("mat2")
    unify(x[1], w[0])
    op.contracts((w[0],))
    unify(b[-1], w[1])
    bias = op.reads(op.args["self"], "bias")
    tensor = op.reads(op.args["mat2"], "linear", 1, 0, bias=bias)
    op.works((x[0], *w), tensor)
    return norm(x[0]), norm(w[1])


@rule("matmul", "mm", "bmm", "baddbmm")
def matmul(op: Op) -> Result:
    """The last dimension of one against the last but one of the other; leading dimensions broadcast."""
    left, right = ("batch1", "batch2") if op.name == "baddbmm" else ("self", next(k for k in ("other", "mat2") if k in op.args))
    x, y = op.dims(left), op.dims(right)
    row, column = len(x) == 1, len(y) == 1
    x = [Const(1), *x] if row else x
    y = [*y, Const(1)] if column else y
    unify(x[-1], y[-2])
    op.contracts((x[-1],))
    batch = broadcast((x[:-2], y[:-2]))
    out = [*batch, *(x[-2:-1] if not row else ()), *(y[-1:] if not column else ())]
    if op.name == "baddbmm":
        out = broadcast((op.dims("self"), out))
    tensor = op.reads(op.args[left], "linear", None if row else len(x) - 2, 0 if row else len(x) - 1)
    tensor = op.reads(op.args[right], "linear", None if column else len(y) - 1, 0 if column else len(y) - 2) or tensor
    op.works((*batch, x[-2], x[-1], y[-1]), tensor)
    return tuple(norm(e) for e in out)


@rule("einsum")
def einsum(op: Op) -> Result:
    """Letters are dimensions: equal letters are unified, those that vanish are contracted."""
    terms, right = _spelled(op.args["equation"], [len(op.dims(node)) for node in op.args["tensors"]])
    letters: dict[str, Expr] = {}
    tensor = None
    for term, node in zip(terms, op.args["tensors"], strict=True):
        for letter, e in zip(term, op.dims(node), strict=True):
            known = letters.setdefault(letter, e)
            if known.n == 1:
                letters[letter] = e
            elif e.n != 1:
                unify(known, e)
        outs, ins = ([i for i, c in enumerate(term) if (c in right) == stays] for stays in (True, False))
        tensor = op.reads(node, "linear", outs[-1] if outs else None, ins[0] if ins else None) or tensor
    op.contracts(e for letter, e in letters.items() if letter not in right)
    op.works(letters.values(), tensor)
    return tuple(norm(letters[c]) for c in right)


def _spelled(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The terms and the result with a letter for every dimension: dots are written out, a missing result is supplied.

    >>> _spelled("...i,ij", (3, 2))
    (['αβi', 'ij'], 'αβj')
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    extra = max((rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term), default=0)
    dots = "αβγδεζηθικ"[:extra]
    if not arrow:
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    spelled = [
        term.replace("...", dots[extra - (rank - len(term) + 3) :] if "..." in term else "")
        for term, rank in zip(terms, ranks, strict=True)
    ]
    return spelled, right.replace("...", dots)


@rule("mv", "dot", "vdot", "linalg_vecdot")
def vectors(op: Op) -> Result:
    """The last dimension of both is contracted."""
    x, y = op.inputs[0], op.inputs[-1]
    unify(x[-1], y[-1])
    op.contracts((x[-1],))
    op.works((*x, *(y[-1:] if op.name == "mv" else ())))
    return [*map(norm, x[:-1])] if op.name == "mv" else broadcast((x, y))[:-1]


@rule("outer", "ger", "addr")
def outer(op: Op) -> Result:
    """Every entry of one times every entry of the other, perhaps added to a matrix."""
    (x,), (y,) = op.dims("vec1" if op.name == "addr" else "self"), op.dims("vec2")
    op.works((x, y))
    return [norm(x), norm(y)] if op.name != "addr" else broadcast((op.dims("self"), [x, y]))


@rule("addmv")
def addmv(op: Op) -> Result:
    """The product W x + b."""
    b, w, x = op.dims("self"), op.dims("mat"), op.dims("vec")
    unify(w[1], x[0])
    op.contracts((w[1],))
    op.works(w, op.reads(op.args["mat"], "linear", 0, 1))
    return broadcast((b, [w[0]]))


@rule("bilinear")
def bilinear(op: Op) -> Result:
    """The product x^T W y for every output; both inputs are contracted."""
    x, y, w = op.dims("input1"), op.dims("input2"), op.dims("weight")
    unify(x[-1], w[1])
    unify(y[-1], w[2])
    op.contracts((w[1], w[2]))
    if op.maybe("bias") is not None:
        unify(w[0], op.dims("bias")[0])
        op.reads(op.args["bias"], "bias")
    lead = broadcast((x[:-1], y[:-1]))
    op.works((*lead, *w), op.reads(op.args["weight"], "linear", 0, 1))
    return *map(norm, lead), norm(w[0])


@rule("_grouped_mm", "grouped_mm_fallback")
def grouped_mm(op: Op) -> Result:
    """Each token against the matrix of its expert, stored (experts, in, out); the third input counts tokens by expert.

    Torch's own kernel wants rows of 16 bytes or multiples of that, forwards and backwards. What models fall back to where
    they are traced does not, but they run that kernel afterwards.
    """
    x, w, ends = op.inputs[:3]
    unify(x[1], w[1])
    unify(w[0], ends[0])
    op.normalises((w[0],))
    if isinstance(op.value, Tensor):
        op.aligns(w[1:], _ALIGNMENT // op.value.element_size())
    tensor = op.reads(op.node.all_input_nodes[1], "linear", 2, 1)
    op.works((x[0], w[1], w[2]), tensor)
    return norm(x[0]), norm(w[2])

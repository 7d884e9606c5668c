"""Ops that sum up, choose or order along dimensions."""

from __future__ import annotations

from pomona.graph.expr import Const, Expr, freeze
from pomona.graph.facts import Counted
from pomona.graph.op import Op, Result, broadcast, rule


@rule(
    "mean",
    "amax",
    "amin",
    "var",
    "std",
    "sum",
    "linalg_vector_norm",
    "norm",
    "any",
    "all",
    "prod",
    "nansum",
    "logsumexp",
    "count_nonzero",
)
def reduce(op: Op) -> Result:
    """Some dimensions vanish or become ones. Zeros count in a mean but not in a sum."""
    x = op.input
    over = _over(op, len(x))
    sums = op.name in ("sum", "nansum", "linalg_vector_norm", "norm", "any", "count_nonzero")
    (op.contracts if sums else op.normalises)(x[d] for d in over)
    return _without(op, x, over)


@rule("max", "min", "median", "mode", "aminmax", "var_mean", "std_mean")
def extreme(op: Op) -> Result:
    """Of two tensors, over everything, or along a dimension with the place where it was found."""
    if op.maybe("other") is not None:
        return broadcast((op.dims("self"), op.dims("other")))
    x = op.input
    over = _over(op, len(x))
    several = not hasattr(op.value, "shape")
    op.normalises(x[d] for d in over)
    if several and op.name in ("max", "min", "median", "mode") and _asks_where(op):
        op.numbers(None, *(x[d] for d in over))
    out = _without(op, op.input, over)
    return [out for _ in op.value] if several else out


def _asks_where(op: Op) -> bool:
    """Whether anybody reads the second output, the position."""
    return any(user.args[1:] != (0,) and user.users for user in op.node.users)


@rule("argmax", "argmin")
def position(op: Op) -> Result:
    """A position along a dimension."""
    x = op.input
    over = _over(op, len(x))
    if len(over) != 1:
        for d in over:
            freeze(x[d], f"the position of the {op.name[3:]}")
    else:
        op.normalises([x[over[0]]])
        op.numbers(x[over[0]])
    return _without(op, op.input, over)


@rule("topk")
def topk(op: Op) -> Result:
    """The largest along a dimension, and where they were: among the kept ones, of which there must be enough."""
    x = op.input
    d = int(op.args["dim"]) % len(x)
    op.normalises((x[d],))
    op.needs(x[d], int(op.args["k"]))
    op.numbers(None, x[d])
    x[d] = Const(op.value[0].shape[d], "the first few of an order")
    return [x, x]


@rule("sort", "argsort", "kthvalue")
def ordered(op: Op) -> Result:
    """The order along a dimension (default: the last)."""
    x = op.input
    given = op.args.get("dim")
    d = (-1 if given is None else given) % len(x)
    freeze(x[d], f"ordered by {op.name}")
    x = op.input
    if op.name == "kthvalue":
        x = _without(op, x, [d])
    return x if hasattr(op.value, "shape") else [x for _ in op.value]


@rule("cumsum", "cumsum_")
def cumsum(op: Op) -> Result:
    """Every position counts those before it."""
    x = op.input
    op.normalises(x[d] for d in _over(op, len(x)))
    return x


@rule("histc")
def histogram(op: Op) -> Result:
    """How often each position was picked; of other numbers, bins."""
    along, bins = op.number("self"), int(op.args["bins"])
    if along is None or along.n != bins or (op.args["min"], op.args["max"]) != (0, bins - 1):
        if along is not None:
            freeze(along, "counted in other bins")
        return [Const(bins, "bins")]
    op.tell(Counted(along))
    return [along]


@rule("cumprod", "logcumsumexp", "cummax", "cummin", "diff", "flip", "roll", "rot90")
def along(op: Op) -> Result:
    """Every position depends on its neighbours."""
    x = op.input
    for d in _over(op, len(x), "dim" if "dim" in op.args else "dims"):
        freeze(x[d], f"positions under {op.name}")
    x = op.input
    if hasattr(op.value, "shape"):
        return [e if e.n == n else Const(n) for e, n in zip(x, op.shape, strict=True)]
    return [x for _ in op.value]


def _over(op: Op, rank: int, argument: str = "dim") -> list[int]:
    given = op.args.get(argument)
    if given is None or given == []:
        return list(range(rank))
    return [d % rank for d in ([given] if isinstance(given, int) else given)] if rank else []


def _without(op: Op, x: list[Expr], over: list[int]) -> list[Expr]:
    if op.args.get("keepdim"):
        return [Const(1) if d in over else e for d, e in enumerate(x)]
    return [e for d, e in enumerate(x) if d not in over]

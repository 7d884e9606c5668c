"""Recurrent layers: rows are gates times hidden units."""

from __future__ import annotations

from pomona.graph.algebra import unify
from pomona.graph.expr import Const, Expr, freeze, norm, product_of, sum_of
from pomona.graph.nodes import name_of
from pomona.graph.op import Op, Result, rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_ZEROS = ("zeros", "zeros_like", "new_zeros")  # states that are nothing yet
_GATES |= {f"{kind}_cell": gates for kind, gates in _GATES.items()}


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(op: Op) -> Result:
    """Input (.., features), params by layer and direction: w_ih (gates * h, in), w_hh (gates * h, h), biases.

    Every layer and direction has hidden units of its own, as many as the others, unless states that come in or are read
    in the end lie side by side.
    """
    x, params = op.dims("input"), list(op.args["params"])
    directions = 2 if op.args["bidirectional"] else 1
    each = len(params) // (directions * int(op.args["num_layers"]))  # with projections one more
    states = op.args["hx"] if isinstance(op.args["hx"], (list, tuple)) else [op.args["hx"]]
    current, hidden, every = x[-1], [], []
    for layer in range(int(op.args["num_layers"])):
        numbers = range(directions * layer, directions * (layer + 1))
        hidden = [_cell(op, x, params[each * k : each * (k + 1)], current) for k in numbers]
        current = sum_of([out for out, _ in hidden])
        every += hidden
    for which, state in enumerate(states):
        if (dims := op.maybe(state)) is not None:
            freeze(dims[0], "layers and directions")
            for both in every if name_of(state) not in _ZEROS else every[:1]:
                unify(dims[-1], both[which])
    final = []
    for which, value in enumerate(op.value[1:]):
        for both in every[1:]:
            if _is_read(op, which + 1):
                unify(every[0][which], both[which])
            op.evens(every[0][which], both[which])
        final.append([*(Const(k, "layers and directions") for k in value.shape[:-1]), norm(every[0][which])])
    return [*map(norm, x[:-1]), norm(sum_of([h for h, _ in hidden]))], *final


def _is_read(op: Op, output: int) -> bool:
    return any(user.args[1] == output and user.users for user in op.node.users)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def cell(op: Op) -> Result:
    """One step of one layer."""
    x = op.dims("input")
    states = op.args["hx"] if isinstance(op.args["hx"], (list, tuple)) else [op.args["hx"]]
    params = [p for p in map(op.args.get, ("w_ih", "w_hh", "b_ih", "b_hh")) if p is not None]
    both = _cell(op, x, params, x[-1])
    for state, h in zip(map(op.dims, states), both, strict=False):
        unify(state[-1], h)
    out = [*map(norm, x[:-1]), norm(both[0])]
    return out if len(states) == 1 else (out, list(out))


def _cell(op: Op, x: list[Expr], params: list[object], current: Expr) -> tuple[Expr, Expr]:
    """What the cell puts out, and its inner state: the same axis unless a projection lies between."""
    gates = Const(_GATES[op.name], "gates")
    tensors = [op.dims(p) for p in params]
    out = h = tensors[1][1]
    projected = len(tensors) % 2
    if projected:
        out, h = tensors[-1]
        unify(out, tensors[1][1])
        op.works((*map(norm, x[:-1]), out, h), op.reads(params[-1], "recurrent", 0, 1))
    unify(tensors[0][1], current)
    for t in tensors[: len(tensors) - projected]:
        unify(t[0], product_of((gates, h)))
    for p in params[:2]:
        op.works((*map(norm, x[:-1]), *op.dims(p)), op.reads(p, "recurrent", 0, 1))
    for p in params[2 : len(params) - projected]:
        op.reads(p, "bias")
    return norm(out), norm(h)

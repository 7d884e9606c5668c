"""Recurrent layers: rows are gates times hidden units."""

from __future__ import annotations

from pomona.graph.algebra import unify
from pomona.graph.expr import Const, Expr, freeze, norm, product_of, sum_of
from pomona.graph.op import Op, Result, rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(op: Op) -> Result:
    """Input (.., features), params by layer and direction: w_ih (gates * h, in), w_hh (gates * h, h), biases."""
    x, params = op.dims("input"), list(op.args["params"])
    directions = 2 if op.args["bidirectional"] else 1
    each = 4 if op.args["has_biases"] else 2
    states = op.args["hx"] if isinstance(op.args["hx"], (list, tuple)) else [op.args["hx"]]
    current, hidden = x[-1], []
    for layer in range(int(op.args["num_layers"])):
        numbers = range(directions * layer, directions * (layer + 1))
        hidden = [_cell(op, x, params[each * k : each * (k + 1)], current) for k in numbers]
        current = sum_of(hidden)
        for state in (s for s in map(op.maybe, states) if s is not None):
            freeze(state[0], "layers and directions")
            for h in hidden:
                unify(state[-1], h)
    out: list[list[Expr] | None] = [[*map(norm, x[:-1]), norm(current)]]
    for value in op.value[1:]:
        for h in hidden[1:]:
            unify(hidden[0], h)
        out.append([*(Const(k, "layers and directions") for k in value.shape[:-1]), norm(hidden[0])])
    out[0] = [*map(norm, x[:-1]), norm(sum_of(hidden))]
    return tuple(out)


def _cell(op: Op, x: list[Expr], params: list[object], current: Expr) -> Expr:
    gates = Const(_GATES[op.name], "gates")
    tensors = [op.dims(p) for p in params]
    h = tensors[1][1]
    unify(tensors[0][1], current)
    for t in tensors:
        unify(t[0], product_of((gates, h)))
    for p in params[:2]:
        op.works((*map(norm, x[:-1]), *op.dims(p)), op.reads(p, "recurrent", 0, 1))
    for p in params[2:]:
        op.reads(p, "bias")
    return norm(h)

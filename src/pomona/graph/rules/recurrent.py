"""Recurrent layers: rows are gates times hidden units."""

from __future__ import annotations

from pomona.graph.algebra import unify
from pomona.graph.expr import Const, Expr, freeze, norm, product_of, sum_of
from pomona.graph.rule import Op, Reading, Result, Work, rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(op: Op) -> Result:
    """Input (.., features), params by layer and direction: w_ih (gates * h, in), w_hh (gates * h, h), biases."""
    x, params = op.dims("input"), list(op.given["params"])
    directions = 2 if op.given["bidirectional"] else 1
    each = 4 if op.given["has_biases"] else 2
    states = op.given["hx"] if isinstance(op.given["hx"], (list, tuple)) else [op.given["hx"]]
    current, hidden = x[-1], []
    for layer in range(int(op.given["num_layers"])):
        hidden = [_cell(op, x, params[each * k : each * (k + 1)], current) for k in range(directions * layer, directions * (layer + 1))]
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
        name = op.tensor(p)
        if name is not None:
            op.readings.append(Reading(name, "recurrent", 0, 1))
        op.work.append(Work(1, (*map(norm, x[:-1]), *op.dims(p)), name))
    for p in params[2:]:
        if (name := op.tensor(p)) is not None:
            op.readings.append(Reading(name, "bias", 0))
    return norm(h)

"""Where a value is zero because a unit is masked, and what sums over units that are not.

A masked unit has zero rows, biases and scales. Its value is zero after the layer that writes it and stays so under ReLU, but
not under sigmoid or exp. A sum or product over units whose values do not vanish counts the dead ones: there, too, zeroed
and removed are different functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from pomona.graph.expr import Atom, Expr, atoms
from pomona.graph.nodes import arguments, name_of
from pomona.graph.op import Record, rule_of
from pomona.graph.rules.pointwise import pointwise

Zeros = frozenset[Atom]  # the atoms on whose masked units a value is zero
NOWHERE: Zeros = frozenset()

_KEEP_ZERO = frozenset((
    "relu", "relu_", "relu6", "relu6_", "gelu", "silu", "silu_", "mish", "mish_", "tanh", "tanh_", "hardswish", "hardswish_",
    "sqrt", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "celu", "neg", "abs", "sin", "square", "sign", "erf", "expm1",
    "log1p", "floor", "ceil", "round", "softsign", "tanhshrink", "hardshrink", "softshrink", "zero_",
    "nan_to_num",
))  # fmt: skip
_CLAMPS = frozenset(("hardtanh", "hardtanh_", "clamp", "clamp_"))
_SUMS = frozenset(("add", "add_", "sub", "sub_", "rsub", "maximum", "minimum"))
_PRODUCTS = {"matmul": None, "mm": None, "bmm": None, "einsum": None, "linear": "bias", "addmm": "self", "baddbmm": "self"}
_NORMS = frozenset(("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"))
_LOSES_ZERO = frozenset(("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "softmin", "logsumexp"))


def count_sums(record: Record) -> None:
    """Add to `normed` every sum or product over units that do not vanish when they are masked."""
    zeros: dict[fx.Node, Zeros] = {n: atoms_of(record.values[n]) for n in record.sources if n.op == "placeholder"}
    for n, value in record.values.items():
        if n.op == "call_function":
            operands = [v for v in n.all_input_nodes if v in record.values]
            zeros[n] = (_zeros(n, record, zeros) & atoms_of(value)) - _half_known(value, operands, record, zeros)
            over = atoms(*record.contracted.get(n, ()))
            alive = tuple(a for a in over if not any(a in zeros.get(v, NOWHERE) for v in operands))
            if alive:
                record.normed[n] = (*record.normed.get(n, ()), *alive)


def atoms_of(value: Any) -> Zeros:
    """The free atoms of a value of the walk."""
    dims: list[Expr] = []
    for e in value or ():
        dims += e if isinstance(e, tuple) else [e] if e is not None else []
    return frozenset(atoms(*dims))


def _half_known(value: Any, operands: list[fx.Node], record: Record, zeros: Mapping[fx.Node, Zeros]) -> Zeros:
    """Atoms that lie along two dimensions of a value, as in a Gram matrix, of which perhaps only one vanishes."""
    seen = [set(atoms(e)) for e in value] if isinstance(value, tuple) else []
    twice = {a for number, here in enumerate(seen) for later in seen[number + 1 :] for a in here & later}
    return frozenset(
        a for a in twice if any(a in atoms_of(record.values[v]) and a not in zeros.get(v, NOWHERE) for v in operands)
    )


def _zeros(n: fx.Node, record: Record, zeros: Mapping[fx.Node, Zeros]) -> Zeros:
    name = name_of(n)
    if not hasattr(n.target, "_schema"):
        return zeros.get(n.all_input_nodes[0], NOWHERE) if name == "getitem" else NOWHERE
    given = arguments(n)

    def of(argument: Any) -> Zeros:
        node = given.get(argument) if isinstance(argument, str) else argument
        return zeros.get(node, NOWHERE) if isinstance(node, fx.Node) else NOWHERE

    if name in _SUMS:
        return of(n.args[0]) & of(n.args[1])
    if name in ("mul", "mul_", "multiply"):
        return of(n.args[0]) | of(n.args[1])
    if name in _KEEP_ZERO or name in ("div", "div_") or (name in _CLAMPS and _spans_zero(given)):
        return of(n.args[0])
    if name in ("pow", "pow_"):
        return of(n.args[0]) if isinstance(n.args[1], (int, float)) and n.args[1] > 0 else NOWHERE
    if name in _PRODUCTS:
        factors = [v for v in n.all_input_nodes if v is not given.get(_PRODUCTS[name] or "")]
        product = NOWHERE.union(*(of(v) & _left(v, n, record) for v in factors))
        return product & of(_PRODUCTS[name]) if given.get(_PRODUCTS[name] or "") is not None else product
    if name.startswith("conv"):
        return of("weight") & of("bias") if given.get("bias") is not None else of("weight")
    if name in _NORMS:
        # What a normaliser runs over is computed from the living and put back among zeros.
        return atoms_of(record.normed.get(n)) | _affine(given, of)
    if name in ("zeros", "zeros_like", "new_zeros"):
        return atoms_of(record.values[n])
    if name == "scaled_dot_product_attention":
        return of("value")
    if name in _LOSES_ZERO or rule_of(n.target, name) is pointwise:
        return atoms_of(record.normed.get(n))
    return _everywhere(n, record, zeros)


def _left(factor: fx.Node, product: fx.Node, record: Record) -> Zeros:
    """The atoms of a factor that are still there in the product: those along more dimensions than it is summed over."""
    dims = record.values.get(factor)
    along = [a for e in dims for a in atoms(e)] if isinstance(dims, tuple) else []  # once for each dimension
    summed = [a for e in record.contracted.get(product, ()) for a in atoms(e)]
    return frozenset(a for a in along if along.count(a) > summed.count(a))


def _affine(given: Mapping[str, Any], of: Any) -> Zeros:
    """Zero scale and zero shift."""
    return of("weight") & of("bias") if given.get("bias") is not None else of("weight")  # type: ignore[no-any-return]


def _spans_zero(given: Mapping[str, Any]) -> bool:
    low, high = given.get("min_val", given.get("min")), given.get("max_val", given.get("max"))
    known = not isinstance(low, fx.Node) and not isinstance(high, fx.Node)
    return known and (low is None or low <= 0) and (high is None or high >= 0)


def _everywhere(n: fx.Node, record: Record, zeros: Mapping[fx.Node, Zeros]) -> Zeros:
    """Ops that only move values: zero where every input that has the unit is."""
    inputs = [(atoms_of(record.values.get(v)), zeros.get(v, NOWHERE)) for v in n.all_input_nodes]
    every = NOWHERE.union(*(have for have, _ in inputs))
    return frozenset(a for a in every if all(a in zero for have, zero in inputs if a in have))

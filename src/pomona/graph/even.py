"""Axes of which code keeps one number: the width of a head is said once, for queries, keys and values alike.

Nothing in the algebra binds the width over which q k^T sums to the width of what softmax(q k^T) v returns: their units have
nothing to do with each other, and each may lose its own. But a module that views all three by one `head_dim` is still itself
only where as many stay of one as of the other. So they form a team, whose members keep equal shares of their units.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from pomona.graph.expr import UNEXPLAINED, Atom, Const, Expr, Product, Sum, atoms, freeze, norm
from pomona.graph.nodes import arguments, name_of
from pomona.graph.op import Record

PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum")
_ATTENTION = "scaled_dot_product_attention"
_CHANCE = {UNEXPLAINED, "input", "repeated", "positions under a softmax"}  # lengths of these may equal a width by chance


def teams(walk: Record) -> list[dict[Atom, None]]:
    """Atoms that must keep equal shares, team by team. Where one of two widths is frozen, the other is frozen as well."""
    found: list[dict[Atom, None]] = []
    for one, other in _pairs(walk):
        if one.n != other.n:
            continue
        _follow(one, other)
        if not (atoms(one) and atoms(other)):
            continue
        team = atoms(one, other)
        for known in [known for known in found if not known.keys().isdisjoint(team)]:
            found.remove(known)
            team = known | team
        found.append(team)
    return [team for team in found if len(team) > 1]


def _pairs(walk: Record) -> Iterator[tuple[Expr, Expr]]:
    """(width that an attention sums over, width that it returns), also of attention between features (q (k^T v)).

    And whatever else a rule says that one number tells: the hidden units of the layers of an LSTM.
    """
    yield from ((norm(one), norm(other)) for one, other in walk.even)
    for node, value in walk.values.items():
        if name_of(node) == _ATTENTION:
            queries, values = (walk.values.get(arguments(node)[word]) for word in ("query", "value"))
            if isinstance(queries, tuple) and isinstance(values, tuple):
                yield norm(queries[-1]), norm(values[-1])
        elif _multiplies(node, walk) and isinstance(value, tuple) and (first := _behind(node, walk)):
            summed = [e for product in (*first, node) for e in walk.contracted.get(product, ())]
            yield from ((norm(e), norm(kept)) for e in summed for kept in value[-2:])


def _follow(one: Expr, other: Expr) -> None:
    """Freeze both widths where one is frozen for a reason of its own, or has a part that cannot shrink with the rest."""
    for width in (one, other):
        fixed = [leaf.why for leaf in _fixed(width) if atoms(width) or leaf.why not in _CHANCE]
        if fixed and atoms(one, other):
            for e in (one, other):
                freeze(e, f"one number of the code says the widths of keys and values, of which a part is frozen: {fixed[0]}")


def _fixed(e: Expr) -> list[Const]:
    """The constants of a width that are not merely factors of it."""
    e = norm(e)
    if isinstance(e, Product):
        return [c for part in e.parts if not isinstance(part, Const) for c in _fixed(part)]
    return [e] if isinstance(e, Const) else [c for part in e.parts for c in _fixed(part)] if isinstance(e, Sum) else []


def _multiplies(node: fx.Node, walk: Record) -> bool:
    """Whether a node is a product of two activations."""
    factors = node.all_input_nodes[-2:]
    return name_of(node) in PRODUCTS and len(factors) == 2 and not any(n in walk.sources for n in factors)


def _behind(node: fx.Node, walk: Record) -> list[fx.Node]:
    """The products that a factor of a product is made from, by ops that are no layers with a weight."""
    found: list[fx.Node] = []
    seen, front = {node}, list(node.all_input_nodes)
    while front:
        n = front.pop()
        if n in seen or n.op != "call_function":
            continue
        seen.add(n)
        if _multiplies(n, walk):
            found.append(n)
        elif n not in walk.contracted and not name_of(n).startswith("conv"):
            front += n.all_input_nodes
    return found

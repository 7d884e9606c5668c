"""What kind of axis an atom is, told from the ops that it takes part in, never from names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, lcm, prod

from torch import fx

from pomona.graph.expr import Atom, Const, Dims, Expr, Product, Sum, atoms, leaves, norm
from pomona.graph.facts import Groups
from pomona.graph.nodes import arguments, name_of
from pomona.graph.op import Record
from pomona.vocabulary import Family, Weight

_PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum")


@dataclass(frozen=True, eq=False)
class Roles:
    """Atoms that attention looks at from one side (heads) or along (widths), groups of convolutions, residual sums, experts.

    `floors` says of how many units a router must be able to choose the best, `strides` of what a kernel wants a multiple.
    """

    heads: frozenset[Atom]
    groups_of_heads: frozenset[Atom]
    widths: frozenset[Atom]
    groups: frozenset[Atom]
    residual: frozenset[Atom]
    experts: frozenset[Atom]
    floors: Mapping[Atom, int]
    strides: Mapping[Atom, int]


def roles(walk: Record, dims: Mapping[str, Dims], weights: Mapping[str, Weight]) -> Roles:
    """Read off the ops of the walk."""
    heads, grouped, widths = _attention(walk, dims, weights)
    return Roles(
        frozenset(heads),
        frozenset(grouped),
        frozenset(widths),
        frozenset(_conv_groups(walk, weights)),
        frozenset(_residual(walk)),
        frozenset(atom for _, v in walk.asked for atom in atoms(walk.numbers[v])),
        _floors(walk),
        _strides(walk),
    )


def family(atom: Atom, found: Roles, writers: Sequence[Weight], readers: Sequence[Weight]) -> Family:
    """The family of one atom; `writers` have it as rows, `readers` as columns (depthwise convolutions do both)."""
    wrote, read = {w.kind for w in writers}, {w.kind for w in readers}
    if atom in found.groups:
        return "group"
    if atom in found.experts:
        return "expert"
    if atom in found.groups_of_heads:
        return "kv-group"
    if atom in found.heads:
        return "head"
    if atom in found.widths:
        return "head-dim"
    if "conv" in read or wrote == {"conv"}:
        return "channel"
    # One writer alone is no stream: activation functions, too, add a tensor to its own powers.
    if (atom in found.residual and len(writers) > 1) or "embedding" in wrote:
        return "width"
    return "neuron" if wrote & {"linear", "recurrent", "conv"} else "other"


def _attention(walk: Record, dims: Mapping[str, Dims], weights: Mapping[str, Weight]) -> tuple[set[Atom], set[Atom], set[Atom]]:
    """Products of two activations: their batch atoms are heads, their contracted or kept feature atoms are head widths."""
    heads: set[Atom] = set()
    groups: set[Atom] = set()
    widths: set[Atom] = set()
    for node in walk.values:
        operands = _operands(node, walk)
        if operands is None:
            continue
        q, k = operands[:2]
        product = [norm(e) for e in q[:-2]]
        for e in product:
            free = list(atoms(e))
            counted = {a: _writers(a, dims, weights) for a in free}
            heads |= set(free)
            groups |= {a for a in free if len(free) > 1 and counted[a] > min(counted.values())}
        widths |= set(atoms(*(norm(d[-1]) for d in operands)))
        if name_of(node) in _PRODUCTS:
            widths |= set(atoms(norm(k[-2])))
    return heads - groups, groups, widths - heads - groups


def _operands(node: fx.Node, walk: Record) -> list[list[Expr]] | None:
    """Dimensions of the factors of a batched product of activations, heads third from the end; None for other ops."""
    name = name_of(node)
    if name == "scaled_dot_product_attention":
        given = arguments(node)
        found = [walk.values.get(given[word]) for word in ("query", "key", "value")]
    elif name in _PRODUCTS and len(node.all_input_nodes) == 2 and not any(n in walk.sources for n in node.all_input_nodes):
        found = [walk.values.get(n) for n in node.all_input_nodes]
    else:
        return None
    return [list(d) for d in found] if all(isinstance(d, tuple) and len(d) >= 3 for d in found) else None  # type: ignore[arg-type]


def _writers(atom: Atom, dims: Mapping[str, Dims], weights: Mapping[str, Weight]) -> int:
    return sum(
        w.kind == "linear" and w.out_dim is not None and atom in atoms(dims[name][w.out_dim])
        for name, w in weights.items()
        if name in dims
    )


def _conv_groups(walk: Record, weights: Mapping[str, Weight]) -> Iterable[Atom]:
    """Group factors of convolutions with more than one channel in a group."""
    for node, fact in walk.facts.items():
        if isinstance(fact, Groups) and name_of(node).startswith("conv"):
            weight = weights.get(walk.sources.get(node.args[1], ("", ()))[0])  # type: ignore[arg-type]
            if weight is not None and weight.in_dim is not None and (weight.shape[1] > 1 or weight.shape[0] > fact.groups.n):
                yield from atoms(fact.groups)


def _floors(walk: Record) -> dict[Atom, int]:
    """Units that must stay of each atom; of a product, as many as possible of its last factor."""
    found: dict[Atom, int] = {}
    for e, need in walk.floors:
        for leaf in reversed(leaves(e)):
            least = min(leaf.n, need)
            need = -(-need // max(least, 1))
            if isinstance(leaf, Atom):
                found[leaf] = max(found.get(leaf, 1), least)
    return found


def _strides(walk: Record) -> dict[Atom, int]:
    """Multiples in which units of each atom must stay."""
    found: dict[Atom, int] = {}
    for e, multiple in walk.strides:
        for atom, stride in _aligned(norm(e), multiple):
            found[atom] = lcm(found.get(atom, 1), stride)
    return found


def _aligned(e: Expr, multiple: int) -> Iterator[tuple[Atom, int]]:
    """What makes a length a multiple: every part of a sum, and of a product the factor that comes nearest to one."""
    if isinstance(e, Atom):
        yield e, multiple
    elif isinstance(e, Sum):
        for part in e.parts:
            yield from _aligned(norm(part), multiple)
    elif isinstance(e, Product):
        free = [part for part in map(norm, e.parts) if not isinstance(part, Const)]
        per_unit = prod(part.n for part in map(norm, e.parts) if isinstance(part, Const))
        yield from _aligned(max(free, key=lambda part: gcd(part.n, multiple)), multiple // gcd(multiple, per_unit))


def _residual(walk: Record) -> Iterable[Atom]:
    """Atoms of sums of two activations that come different ways; activation functions add a tensor to its own powers."""
    roots: dict[fx.Node, fx.Node] = {}
    for node, value in walk.values.items():
        inputs = node.all_input_nodes
        ways = {roots.get(n, n) for n in inputs}
        roots[node] = ways.pop() if len(ways) == 1 and walk.live.issuperset(inputs) else node
        if (
            name_of(node) in ("add", "add_")
            and len(inputs) == 2
            and roots[node] is node
            and not any(n in walk.sources for n in inputs)
            and isinstance(value, tuple)
        ):
            yield from set.intersection(*(set(atoms(*(walk.values[n] or ()))) for n in inputs))  # type: ignore[arg-type]

"""What each op does to a vector on an axis that is turned; an op that is not here, or not in this way, lets no turn through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import fx

from pomona.graph.expr import Atom, norm
from pomona.graph.nodes import arguments, name_of
from pomona.graph.turning_walk import ENTRIES, SCALED, SQUARE, Handler, Handlers, Stiff, Value, Walk

_MOVES = frozenset({
    "to", "_to_copy", "type_as", "alias", "contiguous", "clone", "detach", "detach_", "lift_fresh_copy", "dropout", "neg",
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "movedim", "unsqueeze", "squeeze",
    "expand", "slice", "narrow", "select", "index", "float", "half", "double",
})  # fmt: skip


def _move(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    """The same vectors elsewhere, or some of them."""
    (given,) = walk.inside(n, atom)
    if name_of(n) == "index":
        picked: Any = n.args[1]
        place = walk.place(given, atom) + len(walk.record.values[given] or ())
        if place < len(picked) and picked[place] is not None:
            raise Stiff("entries change places")
    return _times(walk, given, atom) if name_of(n) == "neg" else walk.value(given, atom)


def _times(walk: Walk, given: fx.Node, atom: Atom) -> Value:
    """Numbers times a vector. A shift before them is no longer what a bias behind them could take over."""
    value = walk.value(given, atom)
    if value.shift is not None:
        raise Stiff("what was shifted is scaled")
    return value


def _join(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    """Vectors of the stream beside each other."""
    for v in n.all_input_nodes:
        walk.stream(v, atom)
    return Value()


def _add(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    """A sum of vectors of the axis; a vector of parameters on what was scaled is its shift."""
    inputs = walk.inside(n, atom)
    if len(inputs) != len(n.all_input_nodes) or any(isinstance(a, (int, float)) for a in n.args[:2]):
        raise Stiff("the same is added to all entries")
    if len({walk.place(v, atom) for v in inputs}) > 1:
        raise Stiff("the axis is mixed with others")
    live = [v for v in inputs if v not in walk.record.sources]
    # In place, other readers of the same node would see the shift as well.
    plain = name_of(n) == "add" and n.kwargs.get("alpha", 1) == 1
    if plain and len(live) == 1 and len(inputs) == 2 and (value := walk.value(live[0], atom)).kind == SCALED:
        shift = walk.parameter(next(v for v in inputs if v is not live[0]), atom)
        if shift is not None and value.shift is None and len(walk.dims[shift[0]]) == 1:
            return replace(value, shift=shift[0])
    for v in inputs:
        walk.stream(v, atom)
    return Value()


def _scale(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    """A number times a vector, a vector of parameters times one of the stream, or the squares of a vector."""
    inputs = walk.inside(n, atom)
    if len(inputs) == 1 and (n.args[0] is inputs[0] or name_of(n)[:3] == "mul"):
        if n.args[0] is n.args[1]:
            if name_of(n) != "mul":
                raise Stiff(ENTRIES)
            walk.stream(inputs[0], atom)
            return Value(SQUARE)
        return _times(walk, inputs[0], atom)
    live = [v for v in inputs if v not in walk.record.sources]
    if len(inputs) != 2 or len(live) != 1 or name_of(n) != "mul":
        raise Stiff(ENTRIES)
    (given,) = (v for v in inputs if v is not live[0])
    vector = walk.parameter(given, atom)
    if vector is None or len(walk.dims[vector[0]]) != 1 or walk.place(live[0], atom) != -1:
        raise Stiff(ENTRIES)
    walk.stream(live[0], atom)
    return Value(SCALED, vector[0])


def _square(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    if name_of(n) != "square" and n.args[1] != 2:
        raise Stiff(ENTRIES)
    walk.stream(n.all_input_nodes[0], atom)
    return Value(SQUARE)


def _mean(walk: Walk, n: fx.Node, atom: Atom) -> Value | None:
    """Over other dimensions, or of the squares, which is the length."""
    (given,) = walk.inside(n, atom)
    if atom in walk.own(n):
        return walk.value(given, atom) if name_of(n) == "mean" else _times(walk, given, atom)
    if name_of(n) != "mean" or walk.value(given, atom).kind != SQUARE:
        raise Stiff("it sums over the axis")
    return None


def _norm(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    given = arguments(n)
    if len(given["normalized_shape"]) != 1 or walk.place(given["input"], atom) != -1:
        raise Stiff("it runs over other dimensions as well")
    walk.stream(given["input"], atom)
    walk.found[atom].centred |= name_of(n) == "layer_norm"
    scale, shift = (where[0] if (where := walk.parameter(given.get(word), atom)) else None for word in ("weight", "bias"))
    return Value(SCALED, scale, shift) if scale or shift else Value()


def _embed(walk: Walk, n: fx.Node, atom: Atom) -> Value:
    walk.writes(arguments(n)["weight"], atom)
    return Value()


def _layer(x: str, weight: str, bias: str, out: int, into: int | None) -> Handler:
    """A matrix that reads the axis, writes it, or both; `out` and `into` are its dimensions."""

    def layer(walk: Walk, n: fx.Node, atom: Atom) -> Value | None:
        given = arguments(n)
        w = given[weight]
        dims = walk.record.values.get(w)
        if w not in walk.record.sources or not isinstance(dims, tuple):
            raise Stiff("a matrix is computed")
        here = [norm(e) for e in dims]
        order = walk.record.sources[w][1]
        if atom in walk.own(given[x]):
            value = walk.value(given[x], atom)
            if into is None or here[into] is not atom or walk.place(given[x], atom) != -1 or value.kind == SQUARE:
                raise Stiff("it reads single entries")
            walk.found[atom].read((walk.record.sources[w][0], order[into]), value)
        if here[out] is not atom:
            return None
        walk.found[atom].writers[walk.record.sources[w][0], order[out]] = None
        if given.get(bias) is not None:
            walk.writes(given[bias], atom)
        return Value()

    return layer


def _handlers() -> Iterator[tuple[str, Handler]]:
    yield from dict.fromkeys(_MOVES, _move).items()
    yield from dict.fromkeys(("cat", "stack"), _join).items()
    yield from dict.fromkeys(("add", "add_", "sub", "sub_"), _add).items()
    yield from dict.fromkeys(("mul", "mul_", "div", "div_"), _scale).items()
    yield from dict.fromkeys(("pow", "square"), _square).items()
    yield from dict.fromkeys(("mean", "sum"), _mean).items()
    yield from dict.fromkeys(("layer_norm", "rms_norm"), _norm).items()
    yield "embedding", _embed
    yield "linear", _layer("input", "weight", "bias", 0, 1)
    yield "addmm", _layer("mat1", "mat2", "self", 1, 0)
    yield from dict.fromkeys(("conv1d", "conv2d", "conv3d"), _layer("input", "weight", "bias", 0, None)).items()


HANDLERS: Handlers = dict(_handlers())

"""Calls that are told sizes, by what they are called: where the sizes stand, and what is right instead of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import isclose
from typing import Any, TypeAlias

Right: TypeAlias = tuple[Any, ...]  # by what each size must be multiplied (None: any number would do); a scale as it must be
Wanted: TypeAlias = tuple[Any, tuple[Any, ...], Mapping[str, Any]]  # an op with its arguments, as it should be called
Given: TypeAlias = tuple[Any, tuple[Any, ...], dict[str, Any]]  # a function with its arguments, as it was called
Better: TypeAlias = tuple[str, Given, Right]  # the kind, the call as it should be, and its factors


@dataclass(frozen=True)
class Kind:
    """Functions and ops by name; `at` is the place of the sizes in a function's call, `words` are keywords for them.

    With `rest` they may be listed as so many arguments; with `single` each is an argument of its own with its own keyword.
    """

    names: tuple[str, ...]
    at: int = 1
    words: tuple[str, ...] = ()
    rest: bool = False
    single: bool = False


KINDS: Mapping[str, Kind] = {
    "shape": Kind(("view", "reshape", "_unsafe_view", "new_zeros", "new_ones", "new_empty"), words=("shape", "size"), rest=True),
    "made": Kind(("zeros", "ones", "full", "empty"), 0, ("size",), rest=True),
    "filled": Kind(("new_full",), words=("size",)),
    "normed": Kind(("layer_norm", "rms_norm", "group_norm"), words=("normalized_shape", "num_groups")),
    "expand": Kind(("expand", "broadcast_to"), words=("size",), rest=True),
    "repeat": Kind(("repeat",), words=("repeats",), rest=True),
    "unflatten": Kind(("unflatten",), 2, ("sizes",)),
    "split": Kind(("split", "split_with_sizes"), words=("split_size_or_sections", "split_size", "split_sizes")),
    "chunk": Kind(("chunk",)),
    "slice": Kind(("slice", "__getitem__", "__setitem__")),
    "narrow": Kind(("narrow",), 2, ("start", "length"), single=True),
    "grouped": Kind(("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 6, ("groups",)),
    "padded": Kind(("pad",), words=("pad",)),
    "classes": Kind(("one_hot",), words=("num_classes",)),
    "times": Kind(("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply")),
    "over": Kind(("div", "div_", "__truediv__", "__itruediv__", "true_divide")),
    "attention": Kind(("scaled_dot_product_attention",)),
}
KIND = {name: kind for kind, named in KINDS.items() for name in named.names}


def merged(one: Right, other: Right) -> Right:
    """What two runs of one call say together: the first counts where both know."""
    return tuple(b if a is None else a for a, b in zip(one, other, strict=True)) if len(one) == len(other) else one


def put_right(kind: str, given: Given, wanted: Wanted) -> Better | None:
    """What a call should be; None where nothing is to be done, or nothing can be."""
    return _SPECIAL[kind](given, wanted) if kind in _SPECIAL else _listed(kind, given, wanted)


def _listed(name: str, given: Given, wanted: Wanted) -> Better | None:
    """`x.view(2, 3)`, `x.view((2, 3))`, `F.conv2d(x, w, groups=4)`, `x.narrow(1, 0, 16)`."""
    kind, (func, args, kwargs) = KINDS[name], given
    places = _places(kind, args, kwargs)
    passed = [value for place in places for value in _sizes(_at(place, args, kwargs))]
    count = len(kind.words) if kind.single else 1
    right = [value for value in wanted[1][kind.at : kind.at + count] for value in _sizes(value)]
    factors = _factors(passed, right)
    if factors is None:
        return None
    values: list[Any] = [r if p != -1 else p for p, r in zip(passed, right, strict=True)]
    if not kind.single and not (len(places) > 1 and kind.rest) and type(_at(places[0], args, kwargs)) is not int:
        values = [values]
    for place, value in zip(places, values, strict=True):
        args, kwargs = _written(place, value, args, kwargs)
    return name, (func, args, kwargs), factors


def _places(kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int | str]:
    """Where the sizes stand: positions of arguments, or keywords."""
    words: list[int | str] = [word for word in kind.words if word in kwargs]
    if kind.single:
        behind: list[int | str] = [kind.at + k for k in range(len(kind.words) - len(words))]
        return behind + words if kind.at + len(behind) <= len(args) else []
    if words or len(args) <= kind.at:
        return words[:1]
    return [*range(kind.at, len(args))] if kind.rest and type(args[kind.at]) is int else [kind.at]


def _at(place: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[place] if isinstance(place, int) else kwargs[place]


def _written(
    place: int | str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(place, int):
        return (*args[:place], value, *args[place + 1 :]), kwargs
    return args, {**kwargs, place: value}


def _sizes(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _dim(given: Given, at: int) -> int:
    _, args, kwargs = given
    return int(args[at] if len(args) > at else kwargs.get("dim", 0))


def _factors(passed: Sequence[Any], right: Sequence[Any]) -> Right | None:
    """By what the passed sizes must be multiplied; None where they are right, or cannot be compared."""
    if len(passed) != len(right) or not all(type(p) is int for p in passed) or not all(type(r) is int for r in right):
        return None
    pairs = [(1, 1) if -1 in (p, r) else (r, p) for p, r in zip(passed, right, strict=True)]
    if all(r == p for r, p in pairs) or any(p == 0 != r for r, p in pairs):
        return None
    return tuple(Fraction(r, p) if p else None for r, p in pairs)


def _unflatten(given: Given, wanted: Wanted) -> Better | None:
    """`x.unflatten(1, (3, 4))`, which the program at new sizes does as a reshape that is told all lengths."""
    kind, (_, args, kwargs) = KINDS["unflatten"], given
    dim, places = _dim(given, 1) % args[0].dim(), _places(kind, args, kwargs)
    if len(wanted[1]) == 2 and places:
        lengths = wanted[1][1][dim : dim + len(_at(places[0], args, kwargs))]
        wanted = (wanted[0], (*wanted[1][:1], dim, lengths), {})
    return _listed("unflatten", given, wanted)


def _split(given: Given, wanted: Wanted) -> Better | None:
    """`x.split(sizes, dim)`, with one size or one each; where one would do no more, there is one factor for each piece."""
    func, args, kwargs = given
    places = _places(KINDS["split"], args, kwargs)
    if not places or len(wanted[1]) < 2:
        return None
    passed, right = _at(places[0], args, kwargs), wanted[1][1]
    if type(passed) is int and type(right) is not int and (len(set(right[:-1])) > 1 or right[-1] > right[0]):
        return "pieces", (func, *_written(places[0], right, args, kwargs)), tuple(Fraction(r, passed) for r in right)
    value = right if type(passed) is not int or type(right) is int else right[0]
    factors = _factors(_sizes(passed), _sizes(value))
    return None if factors is None else ("split", (func, *_written(places[0], value, args, kwargs)), factors)


def _chunk(given: Given, wanted: Wanted) -> Better | None:
    """`x.chunk(3, dim)`, where the pieces are no longer of one length: factors of the whole length."""
    _, args, kwargs = given
    right, count = wanted[1][1], int(args[1] if len(args) > 1 else kwargs["chunks"])
    dim, whole = _dim(given, 2), args[0].shape[_dim(given, 2)]
    if type(right) is int or sum(right) != whole or right == [len(piece) for piece in _parted(whole, count)]:
        return None
    return "chunk", (type(args[0]).split, (args[0], right, dim), {}), tuple(Fraction(r, whole) for r in right)


def _parted(length: int, count: int) -> list[range]:
    step = -(-length // count)
    return [range(start, min(start + step, length)) for start in range(0, length, step)]


def _scaled(kind: str, given: Given, wanted: Wanted) -> Better | None:
    """`x * scale`, `x / scale`: one number and one tensor."""
    func, args, kwargs = given
    if len(args) != 2 or len(wanted[1]) != 2 or kwargs:
        return None
    passed, right = ([a for a in pair if isinstance(a, (int, float))] for pair in (args, wanted[1]))
    if len(passed) != 1 or len(right) != 1 or isclose(passed[0], right[0], rel_tol=1e-12) or not passed[0]:
        return None
    put = tuple(right[0] if isinstance(a, (int, float)) else a for a in args)
    return kind, (func, put, {}), (right[0] / passed[0],)


def _attention(given: Given, wanted: Wanted) -> Better | None:
    """Attention that takes its scale from the width that it meets is told the scale of the unpruned heads."""
    func, args, kwargs = given
    right = wanted[2].get("scale")
    if right is None or kwargs.get("scale") is not None or isclose(args[0].shape[-1] ** -0.5, right, rel_tol=1e-12):
        return None
    return "attention", (func, args, {**kwargs, "scale": right}), (right,)


_SPECIAL: Mapping[str, Callable[[Given, Wanted], Better | None]] = {
    "unflatten": _unflatten,
    "split": _split,
    "chunk": _chunk,
    "times": partial(_scaled, "times"),
    "over": partial(_scaled, "over"),
    "attention": _attention,
}

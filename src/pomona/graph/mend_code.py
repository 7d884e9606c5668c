"""Code of modules with its sizes put right: a class of the same name and state, whose methods say what the small model needs.

    qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads)

becomes, where the heads are no longer `C // self.num_heads` wide,

    qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads * self.resized[0][4][0] // self.resized[0][4][1])

Every size stays a multiple of what the code works out, so that batches and sequences remain free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from pomona.graph.mend_kinds import Right
from pomona.graph.mend_places import Call
from pomona.graph.mend_source import NUMBERS, Source, Unreadable


def rewrite_calls(models: Sequence[nn.Module], calls: Mapping[str, Mapping[Call, Right]]) -> None:
    """Give the named modules of each model classes whose code makes these calls with the right sizes, in place.

    Modules of one class share one new class; a function that a module holds is that module's own. Raises Unreadable before
    anything is changed.
    """
    by_class: dict[type, dict[Call, list[bool]]] = {}
    held: dict[tuple[str, str], FunctionType] = {}
    for name, found in calls.items():
        module = models[0].get_submodule(name)
        for attribute in {call.held for call in found if call.held}:
            own = {call: right for call, right in found.items() if call.held == attribute}
            held[name, attribute] = _own(getattr(module, attribute), type(module), own)
        for call, right in found.items():
            if call.held is None:
                _add(by_class.setdefault(type(module), {}), call, _wrong(call, right), type(module))
    made = {kind: _rewritten(kind, found) for kind, found in by_class.items()}
    for model in models:
        for (name, attribute), function in held.items():
            vars(model.get_submodule(name)).update({attribute: function, NUMBERS: ()})
        for name, module in model.named_modules():
            kind = type(module)
            if kind in made and not vars(module).get(NUMBERS):
                module.__class__ = made[kind]
                module.__dict__[NUMBERS] = tuple(
                    _numbers(call, calls.get(name, {}).get(call), len(wrong)) for call, wrong in by_class[kind].items()
                )


def _add(into: dict[Call, list[bool]], call: Call, wrong: list[bool], kind: type) -> None:
    before = into.setdefault(call, wrong)
    if len(before) != len(wrong):
        raise Unreadable(f"{kind.__name__} is called with other ranks")
    into[call] = [a or b for a, b in zip(before, wrong, strict=True)]


def _wrong(call: Call, right: Right) -> list[bool]:
    return [r not in (1, None) or call.kind == "attention" for r in right]


def adapted(model: nn.Module) -> dict[str, int]:
    """Classes of modules whose code has been given other sizes -> how many modules of them there are."""
    found: dict[str, int] = {}
    for module in model.modules():
        if NUMBERS in vars(module):
            found[type(module).__name__] = found.get(type(module).__name__, 0) + 1
    return found


def _numbers(call: Call, right: Right | None, count: int) -> Any:
    if call.kind == "attention":
        return None if right is None else right[0]
    if call.kind in ("times", "over"):
        return 1.0 if right is None else right[0]
    same = Fraction(1, count) if call.kind == "chunk" else 1  # each piece of a chunk is a share of the whole
    known = (same if r is None else r for r in right or (None,) * count)
    return tuple((Fraction(r).numerator, Fraction(r).denominator) for r in known)


def _own(function: FunctionType, kind: type, calls: Mapping[Call, Right]) -> FunctionType:
    """A function that a module holds, with the factors of its calls beside it."""
    source = Source.of(function, kind, function.__name__, held=True)
    for number, (call, right) in enumerate(calls.items()):
        if call.through:
            raise Unreadable(f"{function.__name__} calls what asks for sizes in line {call.line}")
        source.mend(call, number, _wrong(call, right))
    return source.compiled({NUMBERS: tuple(_numbers(call, right, len(right)) for call, right in calls.items())})


def _rewritten(kind: type, calls: Mapping[Call, Sequence[bool]]) -> type:
    """A subclass of the same name with the methods that make these calls written anew.

    A method that another hides, which calls it through `super()`, is written anew in a class between the two.
    """
    sources: dict[tuple[Any, ...], Source] = {}
    methods: dict[type, dict[str, FunctionType]] = {}
    for number, (call, wrong) in enumerate(calls.items()):
        _source(sources, kind, call.through, call.code).mend(call, number, wrong)
    for source in sources.values():
        methods.setdefault(source.holder, {})[source.name] = source.compiled()
    between = [_like(base, (base,), methods[base]) for base in kind.__mro__[1:] if base in methods]
    return _like(kind, (kind, *between), methods.get(kind, {}))


def _source(
    sources: dict[tuple[Any, ...], Source], kind: type, through: tuple[tuple[Call, FunctionType | None], ...], code: CodeType
) -> Source:
    """The source of a method, or of a function on the way from one: such a function becomes a method of this very call."""
    root = through[0][0].code if through else code
    key = (root, *(site for site, _ in through))
    if key not in sources and not through:
        holder, name, function = _method(kind, root)
        sources[key] = Source.of(function, holder, name)
    elif key not in sources:
        site, called = through[-1]
        if called is None:
            raise Unreadable(f"what is called in line {site.line} of {site.code.co_name} has no name of its own")
        outer = _source(sources, kind, through[:-1], root)
        name = f"{called.__name__}_{NUMBERS}_{len(sources)}"
        outer.call_own(site, called, name)
        sources[key] = Source.bound(called, kind, name)
    return sources[key]


def _like(kind: type, bases: tuple[type, ...], methods: Mapping[str, FunctionType]) -> type:
    told = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, bases, {**methods, **told})


def _method(kind: type, code: CodeType) -> tuple[type, str, FunctionType]:
    """Where a method is to be written anew: in the class itself, or in a parent where the class hides it; its name."""
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if isinstance(value, FunctionType) and value.__code__ is code:
                hidden = any(name in vars(before) for before in kind.__mro__[: kind.__mro__.index(base)])
                return base if hidden else kind, name, value
    raise Unreadable(f"{code.co_name} of {kind.__name__} is no plain method")

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

from pomona.graph.mend_calls import Call, Right
from pomona.graph.mend_source import NUMBERS, Source, Unreadable


def rewrite_calls(models: Sequence[nn.Module], calls: Mapping[str, Mapping[Call, Right]]) -> None:
    """Give the named modules of each model classes whose code makes these calls with the right sizes, in place.

    Modules of one class share one new class. Raises Unreadable before anything is changed.
    """
    by_class: dict[type, dict[Call, list[bool]]] = {}
    for name, found in calls.items():
        kind = type(models[0].get_submodule(name))
        for call, right in found.items():
            wrong = [r != 1 or call.kind == "attention" for r in right]
            before = by_class.setdefault(kind, {}).setdefault(call, wrong)
            if len(before) != len(wrong):
                raise Unreadable(f"{kind.__name__} is called with other ranks")
            by_class[kind][call] = [a or b for a, b in zip(before, wrong, strict=True)]
    made = {kind: _rewritten(kind, found) for kind, found in by_class.items()}
    for model in models:
        for name, module in model.named_modules():
            kind = type(module)
            if kind in made and not vars(module).get(NUMBERS):
                module.__class__ = made[kind]
                module.__dict__[NUMBERS] = tuple(
                    _numbers(call, calls.get(name, {}).get(call), len(wrong)) for call, wrong in by_class[kind].items()
                )


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
    return tuple((Fraction(r).numerator, Fraction(r).denominator) for r in right or (1,) * count)


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
        sources[key] = Source.of(called, kind, name).bound()
        outer.call_own(site, called.__name__, name)
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

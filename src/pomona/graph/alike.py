"""Whether one module is a float64 copy of another, found by looking at all that a copy is made from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from pomona.graph.borrowed import Borrowed
from pomona.graph.precise import wide
from pomona.graph.tables import dictionaries

Pair = tuple[Any, Any]

_PLAIN = (int, float, complex, str, bytes, bool, torch.dtype, torch.device, torch.Size)
_STATE = ("_parameters", "_buffers", "_modules", "training")


def unlike(twin: nn.Module, small: nn.Module) -> set[str] | None:
    """Names of parameters that are not in `twin` what they are in `small`, widened; None where anything else differs.

    Classes, attributes and whatever objects these hold are compared, as far down as a deep copy reaches; what cannot be compared
    counts as different. The empty set says that a float64 copy of `small` would do what `twin` does.
    """
    ours, theirs = (dict(model.named_modules(remove_duplicate=False)) for model in (twin, small))
    if ours.keys() != theirs.keys() or dictionaries(small):
        return None
    found: set[str] = set()
    pairs: list[Pair] = []
    for path, module in ours.items():
        other = theirs[path]
        own, its = ({k: v for k, v in vars(m).items() if k not in _STATE} for m in (module, other))
        if type(module) is not type(other) or any(getattr(module, k).keys() != getattr(other, k).keys() for k in _STATE[:3]):
            return None
        pairs += [(own, its), (module._buffers, other._buffers)]
        for name, value in module._parameters.items():
            if not _equal(value, other._parameters[name]):
                found.add(f"{path}.{name}" if path else name)
    return found if _same(pairs, [(module, theirs[path]) for path, module in ours.items()]) else None


def _same(pairs: list[Pair], known: list[Pair]) -> bool:
    """Whether both of every pair are alike, and what they hold; `known` pairs are not looked into."""
    # Which keeps them alive: an id means something only as long as its object lives.
    seen: dict[tuple[int, int], Pair] = {(id(a), id(b)): (a, b) for a, b in known}
    while pairs:
        a, b = pair = pairs.pop()
        if a is b or (id(a), id(b)) in seen:
            continue
        if type(a) is not type(b) and not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            return False
        seen[id(a), id(b)] = pair
        inner = _inner(a, b)
        if inner is None:
            return False
        pairs += inner
    return True


def _inner(a: Any, b: Any) -> list[Pair] | None:
    """What has to be alike for two objects of one type to be alike; None where they are not."""
    if isinstance(a, Tensor):
        return [] if _equal(a, b) else None
    if type(a) in _PLAIN:
        return [] if a == b else None
    if type(a) in (dict, OrderedDict):
        return list(zip(a.values(), b.values(), strict=True)) if list(a) == list(b) else None
    if type(a) in (set, frozenset):  # whose order tells how they came about, by hashes that differ from run to run
        return [] if a == b and all(type(entry) in _PLAIN for entry in a) else None
    if type(a) in (list, tuple):
        return list(zip(a, b, strict=True)) if len(a) == len(b) else None
    if isinstance(a, ref):
        return [(a(), b())]
    if isinstance(a, MethodType):
        return [(a.__self__, b.__self__)] if a.__func__ is b.__func__ else None
    return _parts(a, b)


def _parts(a: Any, b: Any) -> list[Pair] | None:
    """Of objects of any class: what a copy is made from; None for those that say themselves how they are copied."""
    if isinstance(a, (type, FunctionType)) or hasattr(type(a), "__deepcopy__"):
        return None
    try:
        told = [[list(part) if isinstance(part, Iterator) else part for part in x.__reduce_ex__(4)] for x in (a, b)]
    except TypeError:  # it cannot be taken apart
        return None
    return list(zip(*told, strict=True)) if len(told[0]) == len(told[1]) else None


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, Borrowed) and (a.void or a.widens(b)):
        return not a.void
    return a.shape == b.shape and torch.equal(wide(a), wide(b))

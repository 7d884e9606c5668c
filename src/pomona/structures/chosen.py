"""Which weights and axes a structure acts on: kinds, and glob patterns over names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pomona.vocabulary import Graph, InputError, Weight


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern names the tensor or the module that holds it: `fc` and `fc.weight` both mean `fc.weight`."""
    module = name.rpartition(".")[0]
    return any(fnmatchcase(name, p) or (module and fnmatchcase(module, p)) for p in patterns)


def wanted(names: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> bool:
    """Whether something that goes by these names is in: named by `only` (if there is one), not by `skip`."""
    return (not only or any(matches(n, only) for n in names)) and not any(matches(n, skip) for n in names)


def chosen(graph: Graph, only: Sequence[str], skip: Sequence[str], also: Sequence[str] = ()) -> list[Weight]:
    """The linear, convolution and recurrent weights, and those of the kinds in `also`, that the patterns leave in.

    Raises InputError when a pattern names nothing or nothing is left.
    """
    known(graph.weights, only, skip)
    found = [w for w in graph.weights.values() if (w.prunable or w.kind in also) and wanted((w.tensor,), only, skip)]
    if not found:
        raise InputError(f"No weight is left to prune with only={tuple(only)} and skip={tuple(skip)}; loosen the patterns.")
    return found


def known(names: Iterable[str], only: Sequence[str], skip: Sequence[str]) -> None:
    """Raises InputError on a pattern that names nothing: a typing error would silently change what is pruned."""
    names = list(names)
    for pattern in (*only, *skip):
        if not any(matches(name, (pattern,)) for name in names):
            close = get_close_matches(pattern, names, 1)
            hint = f"; did you mean '{close[0]}'?" if close else "."
            raise InputError(f"The pattern '{pattern}' names no tensor of the model{hint}")

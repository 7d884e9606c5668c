"""What users call things: names, glob patterns over them, families of axes, classes of modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pomona.vocabulary import BLOCKS, FAMILIES, Graph, InputError, Site, Weight, plural


class Emptied(InputError):
    """The user's bounds leave this structure nothing to prune; in a union the others may still have something."""


def goes_by(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a pattern names something that has these names.

    `fc` and `fc.weight` both mean `fc.weight`, `blocks.0` everything in that module. A word for a family (`heads`, `layers`)
    means nothing else, whatever the modules of a model are called; `heads.*` is what lies in a module of that name.
    """
    words = [p for p in patterns if p in FAMILIES or p in BLOCKS]
    globs = [p for p in patterns if p not in words]
    return any(name in words or _matches(name, globs) for name in names)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(place, p) for place in (_within(name) if patterns else ()) for p in patterns)


def _within(name: str) -> list[str]:
    """A name and the modules around it: `a.b.weight`, `a.b`, `a`."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def title_of(site: Site) -> tuple[str, ...]:
    """What a site itself is called: its name, and its family or (for blocks) `layers`, `blocks`."""
    return site.name, *((plural(site.axis.family),) if site.axis else BLOCKS if site.kind == "branch" else ())


def names_of(site: Site) -> tuple[str, ...]:
    """All that a site reaches into as well: its parameters, the classes of their modules, its blocks."""
    weights = [w for m in site.members if (w := site.weight or m.weight) is not None]
    tensors = (m.tensor for m in site.members if not m.buffer)
    return tuple(dict.fromkeys((*title_of(site), *tensors, *site.blocks, *(w.module for w in weights if w.module))))


def kind_of(site: Site) -> str:
    """What users call its units: a family of axes, layers, weights."""
    return plural(site.axis.family) if site.axis else BLOCKS[0] if site.kind == "branch" else "weights"


def wanted(site: Site, only: Sequence[str], keep: Sequence[str]) -> bool:
    """Whether a site is in: named by `only` (if there is one), not by `keep`."""
    names = names_of(site)
    return (not only or goes_by(names, _places(only))) and not goes_by(names, _places(keep))


def _places(patterns: Sequence[str]) -> list[str]:
    """Where `blocks` and `layers` say a place, they are the modules of that name as well."""
    return [place for p in patterns for place in ((p, f"{p}.*") if p in BLOCKS else (p,))]


def chosen(sites: Iterable[Site], only: Sequence[str], keep: Sequence[str]) -> list[Site]:
    """The sites that the patterns leave in; raises Emptied when nothing is left."""
    found = [site for site in sites if wanted(site, only, keep)]
    if not found:
        raise Emptied(f"Nothing is left to prune with only={tuple(only)} and keep={tuple(keep)}; loosen the patterns.")
    return found


def known(graph: Graph, *patterns: str) -> None:
    """Raises InputError on a pattern that names nothing: a typing error would silently change what is pruned."""
    if not patterns:
        return
    names = _all_names(graph)
    for pattern in patterns:
        if not goes_by(names, (pattern,)):
            close = get_close_matches(pattern, names, 1)
            there = sorted({plural(axis.family) for axis in graph.axes.values()}) if pattern in FAMILIES else []
            hint = f"; it has {', '.join(there)}." if there else f"; did you mean '{close[0]}'?" if close else "."
            raise InputError(f"The pattern '{pattern}' names nothing in the model{hint}")


def _all_names(graph: Graph) -> list[str]:
    weights = [name for w in graph.weights.values() for name in (w.tensor, w.module)]
    axes = [name for axis in graph.axes.values() for name in (axis.name, plural(axis.family))]
    blocks = [name for branch in graph.branches for name in (branch.container, *branch.blocks, *BLOCKS)]
    modules = [module for w in graph.weights.values() for module in _within(w.tensor)[1:]]
    return list(filter(None, dict.fromkeys((*weights, *modules, *axes, *blocks))))


def matrices(graph: Graph, also: Sequence[str] = ()) -> list[Weight]:
    """The linear, convolution and recurrent weights, and those of the kinds in `also`."""
    return [w for w in graph.weights.values() if w.prunable or w.kind in also]

"""What is claimed of the table, each held against the rows: holds, does not, or open where rows are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.language_models.methods import AUTHORS, ONE_SEED, PATTERNS, SIZES, SMALLER, SPARSE, SPARSITIES, WITH_OWL
from benchmarks.language_models.table import Table

PUBLISHED = ("magnitude", "wanda", "sparsegpt", "alps")  # from the highest perplexity to the lowest
CONTROLS = ("magnitude-units", "random-units")
_POINTS = (*SPARSITIES, *PATTERNS)
_COMPARED = ("50 %", "2:4")  # with the authors' code at least here
_ORDERED = ("2:4", "60 %", "70 %")  # where published tables agree on the order
_SEEDS = 3


@dataclass(frozen=True)
class Claim:
    """One sentence, whether it holds (None: rows are missing), the numbers that say so, and how many seeds they are from."""

    text: str
    holds: bool | None
    told: str
    seeds: int

    @property
    def verdict(self) -> str:
        """In a word; fewer seeds than there should be are told."""
        if self.holds is None:
            return "open"
        few = f" so far ({self.seeds} of {_SEEDS} seeds)" if self.seeds < _SEEDS else ""
        return f"**{'holds' if self.holds else 'does not hold'}**{few}"


def claims(table: Table) -> Iterator[Claim]:
    """All of them, in the order of the page."""
    for theirs in AUTHORS:
        for point in _POINTS:
            if table.there(theirs, point) or point in _COMPARED:
                yield _as_theirs(table, theirs.removeprefix("authors-"), theirs, point)
    for point in _ORDERED:
        yield _in_order(table, point)
    yield _best(table)
    for point in SIZES:
        yield _beats_controls(table, point)


def _as_theirs(table: Table, ours: str, theirs: str, point: str) -> Claim:
    """Means differ by no more than the seeds of either do."""
    text = f"{ours} at {point} is within the seed spread of its authors' code"
    pairs = table.pairs(ours, theirs, point)
    if len(pairs) < 2:
        told = "".join(f"{a:.3f}, theirs {b:.3f}; " for a, b in pairs) + f"{len(pairs)} of at least 2 seeds"
        return Claim(text, None, told, len(pairs))
    columns = list(zip(*pairs, strict=True))
    spread, apart = max(max(c) - min(c) for c in columns), fmean(columns[0]) - fmean(columns[1])
    each = max(abs(a / b - 1) for a, b in pairs)
    told = f"means {apart:+.3f} apart, seeds {spread:.3f}; no seed differs by more than {each:.2%}"
    return Claim(text, abs(apart) <= spread, told, len(pairs))


def _in_order(table: Table, point: str) -> Claim:
    """The means, in the order of the published tables."""
    means = {method: value for method in PUBLISHED if (value := table.mean(method, point)) is not None}
    holds = all(a > b for a, b in pairwise(means.values())) if len(means) == len(PUBLISHED) else None
    told = ", ".join(f"{method} {value:.2f}" for method, value in means.items())
    return Claim(f"{' > '.join(PUBLISHED)} at {point}", holds, told or "no rows", _fewest(table, means, point))


def _best(table: Table) -> Claim:
    """Of the methods with rows wherever SparseGPT has them, the one with the lowest mean ratio; lower with every seed?"""
    text = "The best recipe is better than sparsegpt at every point, with every seed"
    seeds = {point: len(table.seeds("sparsegpt", point)) for point in _POINTS if table.there("sparsegpt", point)}
    pairs = {m: {point: table.pairs(m, "sparsegpt", point) for point in seeds} for m in SPARSE | WITH_OWL if m != "sparsegpt"}
    pairs = {m: found for m, found in pairs.items() if found and all(len(found[p]) == count for p, count in seeds.items())}
    if not pairs:
        return Claim(text, None, "no method is there at every point", 0)
    ratios = {m: [a / b for point in found.values() for a, b in point] for m, found in pairs.items()}
    best = min(pairs, key=lambda m: fmean(ratios[m]))
    worse = [point for point, found in pairs[best].items() if any(a >= b for a, b in found)]
    told = f"{best}: {min(ratios[best]):.3f} to {max(ratios[best]):.3f} of it over {', '.join(seeds)}"
    # Points that nobody has measured yet refute nothing, and prove nothing either.
    holds = False if worse else True if len(seeds) == len(_POINTS) else None
    return Claim(text, holds, told + (f"; not at {', '.join(worse)}" if worse else ""), min(seeds.values()))


def _beats_controls(table: Table, point: str) -> Claim:
    """At least one method is better than both controls; all are told."""
    means = {m: value for m in SMALLER if (value := table.mean(m, point)) is not None}
    methods, controls = ([value for m, value in means.items() if (m in CONTROLS) is side] for side in (False, True))
    holds = min(methods) < min(controls) if methods and len(controls) == len(CONTROLS) else None
    told = ", ".join(f"{m} {value:.1f}" for m, value in means.items())
    text = f"Structured pruning, {point}, beats {' and '.join(CONTROLS)}"
    return Claim(text, holds, told or "no rows", _fewest(table, means, point))


def _fewest(table: Table, methods: Iterable[str], point: str) -> int:
    """Seeds of the method that has the fewest; those that need one count for all."""
    return min((_SEEDS if m in ONE_SEED else len(table.seeds(m, point)) for m in methods), default=0)

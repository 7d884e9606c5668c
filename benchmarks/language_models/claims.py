"""What is claimed of the table, each held against the rows: holds, does not, or open where rows are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.language_models.methods import AUTHORS, METHODS, PATTERNS, SIZES, SMALLER, SPARSITIES
from benchmarks.language_models.table import Table

_POINTS = (*SPARSITIES, *PATTERNS)
_CONTROLS = ("magnitude-units", "random-units")
_PUBLISHED = ("magnitude", "wanda", "sparsegpt", "alps")  # from the highest perplexity to the lowest


@dataclass(frozen=True)
class Claim:
    """One sentence, whether it holds (None: rows are missing), and the numbers that say so."""

    text: str
    holds: bool | None
    told: str

    @property
    def verdict(self) -> str:
        """In a word."""
        return "open" if self.holds is None else "**holds**" if self.holds else "**does not hold**"


def claims(table: Table) -> Iterator[Claim]:
    """All of them, in the order of the page."""
    for theirs in AUTHORS:
        for point in _POINTS:
            if table.there(theirs, point):
                yield _as_theirs(table, theirs.removeprefix("authors-"), theirs, point)
    for point in ("2:4", "60 %", "70 %"):
        yield _in_order(table, point)
    yield _best(table)
    for point in SIZES:
        yield _beats_controls(table, point)


def _as_theirs(table: Table, ours: str, theirs: str, point: str) -> Claim:
    """Means differ by no more than the seeds of either do."""
    text = f"{ours} at {point} is within the seed spread of its authors' code"
    pairs = table.pairs(ours, theirs, point)
    if len(pairs) < 2:
        return Claim(text, None, f"{len(pairs)} of at least 2 seeds" + "".join(f": {a:.2f} and theirs {b:.2f}" for a, b in pairs))
    columns = list(zip(*pairs, strict=True))
    spread, apart = max(max(c) - min(c) for c in columns), fmean(columns[0]) - fmean(columns[1])
    each = max(abs(a / b - 1) for a, b in pairs)
    told = f"means {apart:+.3f} apart, seeds {spread:.3f}; no seed differs by more than {each:.2%}"
    return Claim(text, abs(apart) <= spread, told)


def _in_order(table: Table, point: str) -> Claim:
    means = {method: table.mean(method, point) for method in _PUBLISHED}
    there = {method: value for method, value in means.items() if value is not None}
    holds = all(a > b for a, b in pairwise(there.values())) if len(there) == len(means) else None
    return Claim(f"{' > '.join(_PUBLISHED)} at {point}", holds, ", ".join(f"{value:.2f}" for value in there.values()))


def _best(table: Table) -> Claim:
    """Of the methods with rows wherever SparseGPT has them, the one with the lowest mean ratio; lower with every seed?"""
    text = "The best recipe is better than sparsegpt at every point, with every seed"
    points = [point for point in _POINTS if table.there("sparsegpt", point)]
    ours = [m for m in METHODS if m not in ("dense", "sparsegpt", *AUTHORS, *SMALLER)]
    full = [m for m in ours if points and all(table.pairs(m, "sparsegpt", point) for point in points)]
    if not full:
        return Claim(text, None, "no method is there at every point")
    ratios = {m: [a / b for point in points for a, b in table.pairs(m, "sparsegpt", point)] for m in full}
    best = min(full, key=lambda m: fmean(ratios[m]))
    worse = [p for p in points if any(a >= b for a, b in table.pairs(best, "sparsegpt", p))]
    # Points that nobody has measured yet can refute nothing, and prove nothing either.
    holds = False if worse else True if len(points) == len(_POINTS) else None
    told = f"{best}: {min(ratios[best]):.3f} to {max(ratios[best]):.3f} of it over {_listed(points)}"
    return Claim(text, holds, told + (f"; not at {_listed(worse)}" if worse else ""))


def _beats_controls(table: Table, point: str) -> Claim:
    """At least one method is better than both controls; all are told."""
    text = f"Structured pruning at {point} beats magnitude and random units"
    means = {m: value for m in SMALLER if (value := table.mean(m, point)) is not None}
    controls, methods = ([value for m, value in means.items() if (m in _CONTROLS) is side] for side in (True, False))
    holds = min(methods) < min(controls) if methods and len(controls) == len(_CONTROLS) else None
    return Claim(text, holds, ", ".join(f"{m} {value:.1f}" for m, value in means.items()))


def _listed(points: Sequence[str]) -> str:
    return ", ".join(points)

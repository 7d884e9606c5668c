"""Rows of one model and protocol, asked by method, point and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.language_models.methods import ONE_SEED, PATTERNS
from benchmarks.language_models.rows import Row


@dataclass(frozen=True)
class Table:
    """(method, point) -> seed -> row."""

    rows: Mapping[tuple[str, str], Mapping[int, Row]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Table:
        """Of the rows of one model and protocol."""
        names = dict.fromkeys((row.method, row.point) for row in rows)
        return cls({name: {row.seed: row for row in rows if (row.method, row.point) == name} for name in names})

    def there(self, method: str, point: str) -> bool:
        """Whether there is a row at all."""
        return bool(self._of(method, point))

    def seeds(self, method: str, point: str) -> Mapping[int, float]:
        """Seed -> perplexity."""
        return {seed: row.perplexity for seed, row in sorted(self._of(method, point).items())}

    def values(self, method: str, point: str) -> list[float]:
        """Perplexities, seed by seed."""
        return list(self.seeds(method, point).values())

    def mean(self, method: str, point: str) -> float | None:
        """Of the perplexities; None where there are none."""
        found = self.values(method, point)
        return fmean(found) if found else None

    def seconds(self, method: str) -> Mapping[str, float]:
        """Processor -> time of pruning, the mean over all points and seeds of a method; {} where it has no rows of its own."""
        own = [row for (name, _), rows in self.rows.items() if name == method for row in rows.values()]
        return {cpu: fmean(row.seconds for row in own if row.cpu == cpu) for cpu in sorted({row.cpu for row in own})}

    def pairs(self, one: str, other: str, point: str) -> list[tuple[float, float]]:
        """Perplexities of both for every seed that both have; what needs no seed has them all."""
        a, b = (self.seeds(method, point) for method in (one, other))
        a, b = (dict.fromkeys(y, x[0]) if m in ONE_SEED and 0 in x else x for m, x, y in ((one, a, b), (other, b, a)))
        return [(a[seed], b[seed]) for seed in a if seed in b]

    def ratio(self, one: str, other: str, point: str) -> float | None:
        """The mean of one over the other, seed by seed; None where no seed has both."""
        pairs = self.pairs(one, other, point)
        return fmean(x / y for x, y in pairs) if pairs else None

    def _of(self, method: str, point: str) -> Mapping[int, Row]:
        # At n:m every row of every weight has its count: what shares out has no say, and the rows are those without it.
        plain = method.removesuffix("-owl") if point in PATTERNS else method
        return self.rows.get((plain, point), {})

"""What the runtime promises, and whether the rows hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.cpu_runtime.rows import Result, Row


@dataclass(frozen=True)
class Goal:
    """A promise about one run. `holds` is None where it was not measured: a contender is missing.

    `of_limit` is the share of the machine's limit that our contender reached; None where its operations were not counted.
    """

    text: str
    where: str
    wanted: float
    found: float | None
    of_limit: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether it is kept."""
        return None if self.found is None else self.found >= self.wanted

    @property
    def at_limit(self) -> float | None:
        """What `found` would be if our contender ran at the limit: where it is below `wanted`, no kernel can hold the promise."""
        return None if self.found is None or not self.of_limit else self.found / self.of_limit


def goals(rows: Sequence[Row]) -> Iterator[Goal]:
    """All that can be asked of these rows."""
    for row in rows:
        one = row.setting
        if one.kind == "linear" and one.batch == 1 and one.cold:
            yield from _single(row)
        elif one.kind == "linear" and one.batch >= 64:
            yield from _batched(row)
        elif one.kind == "conv":
            yield _over_best(row, "8x1 at 90 %, times the best dense engine", row.find("conv_blocks", "8x1", 90), 4.5)
        elif one.kind == "model":
            found = [r for s in (80, 90) for p in ("4x1", "8x1") for r in row.find("accelerate", p, s)]
            yield _over_best(row, "4x1 or 8x1 at 80 to 90 %, times the best dense engine", found, 2.0)


def _single(row: Row) -> Iterator[Goal]:
    for sparsity, wanted in ((50, 1.0), (80, 1.3), (90, 1.3)):
        single = [r for layout in ("bitmask", "csr16") for r in row.find(layout, "weights", sparsity)]
        yield _over_deepsparse(row, f"single weights at {sparsity} %, times DeepSparse", single, sparsity, wanted)
    yield _over_best(row, "bitmask f32 at 50 %, times the best dense engine", row.find("bitmask", "weights", 50), 1.6)
    yield _over_best(row, "bitmask int8 at 50 %, times the best dense engine", row.find("bitmask", "weights", 50, "int8"), 4.0)
    yield _over_best(row, "16x1 at 90 %, times the best dense engine", row.find("rowlanes", "16x1", 90), 8.0)


def _batched(row: Row) -> Iterator[Goal]:
    single = row.find("blocks", "weights", 90)
    yield _over_deepsparse(row, "single weights at 90 %, times DeepSparse", single, 90, 1.3)
    for pattern in ("4x1", "8x1"):
        best = _fastest(row.find("blocks", pattern, 80))
        share = None if best is None else row.of_limit(best)
        yield Goal(f"{pattern} at 80 %, share of the limit", str(row.setting), 0.85, share, share)


def _over_best(row: Row, text: str, found: Sequence[Result], wanted: float) -> Goal:
    return _over(row, text, found, row.best, wanted)


def _over_deepsparse(row: Row, text: str, found: Sequence[Result], sparsity: float, wanted: float) -> Goal:
    theirs = next((r for r in row.results if r.side == "deepsparse" and r.sparsity == sparsity), None)
    return _over(row, text, found, theirs, wanted)


def _over(row: Row, text: str, found: Sequence[Result], other: Result | None, wanted: float) -> Goal:
    best = _fastest(found)
    value = None if best is None or other is None else best.over(other)[0]
    return Goal(text, str(row.setting), wanted, value, row.of_limit(best) if best is not None and best.operations else None)


def _fastest(found: Sequence[Result]) -> Result | None:
    return min(found, key=lambda result: result.median, default=None)

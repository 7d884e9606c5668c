"""Engines side by side: what each gives, how large its file is, how long a pass takes, and which to deploy on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pomona.runtime.roofline import reached
from pomona.vocabulary import aligned

HEAD = ("engine", "file MB", "off by", "ready s", "median ms", "10 to 90 %", "of the best dense", "limit reached", "")
AS_FAST = 0.97  # engines whose times are within this ratio are as fast as each other


@dataclass(frozen=True)
class Row:
    """One engine, or one kind of file without an engine here, which has no times.

    `error` is how far outputs are off the model's after the round trip through the file of `nbytes` bytes: the largest difference
    relative to the largest value, in the worst output of two inputs; None where the engine did not run, and `why` says why.
    `holds`: no more than the tolerance. `ready_s` are the seconds from the model to the first pass, of which those to the file
    count for the first engine that reads it. `ms` is the median of a pass, `spread` the 10 % and 90 % quantiles; `ratio` and
    `ratio_spread` the same of its time as a share of the best dense engine's in the same round, `near` of its time as a share of
    the fastest's. `limit_ms` is the least that this machine could take for what the engine reads and multiplies.
    """

    engine: str
    dense: bool
    error: float | None = None
    holds: bool = False
    why: str | None = None
    nbytes: int | None = None
    ready_s: float | None = None
    ms: float | None = None
    spread: tuple[float, float] | None = None
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    near: float | None = None
    limit_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class EngineTable:
    """All engines, timed in turns in one run with the same `threads`, on the same inputs of `batch` rows.

    `clock`, `cold` and `pinned` are as in `measure_latency`; outputs may be off by `tolerance`.
    """

    rows: tuple[Row, ...]
    batch: int
    threads: int
    rounds: int
    tolerance: float
    clock: str = "wall"
    cold: bool = False
    pinned: tuple[int, ...] = ()

    @property
    def best(self) -> Row | None:
        """The fastest engine whose outputs hold."""
        return _fastest(self.rows)

    @property
    def best_dense(self) -> Row | None:
        """The fastest of those that multiply zeros as well."""
        return _fastest(row for row in self.rows if row.dense)

    @property
    def told(self) -> str:
        """Which engine to deploy on, in a sentence."""
        best, dense = self.best, self.best_dense
        if best is None:
            return "No engine gives what the model gives; there is none to deploy on."
        assert best.ms is not None
        eager = next((row for row in self.rows if row.engine == "eager" and row.ms), None)
        beside = dense if best is not dense and dense else eager if best is not eager else None
        gain = ""
        if beside is not None and beside.ms is not None:
            name = f"the best dense engine ({beside.engine})" if beside is dense else "torch's eager mode"
            gain = f", {beside.ms / best.ms:.3g}x as fast as {name}"
        near = [row.engine for row in self.rows if row is not best and row.holds and row.near and row.near < 1 / AS_FAST]
        tie = f" As fast within 3 %: {', '.join(near)}." if near else ""
        return f"Deploy on {best.engine}: {best.ms:.3g} ms{gain}.{tie}"

    @property
    def measured(self) -> str:
        """How it was measured, in a clause."""
        weights = ", cold weights" if self.cold else ""
        clock = ", processor time" if self.clock == "cpu" else ""
        where = f", on processors {', '.join(map(str, self.pinned))}" if self.pinned else ""
        return f"{self.rounds} rounds in turn, batch {self.batch}, threads {self.threads}{where}{weights}{clock}"

    def cells(self) -> list[tuple[str, ...]]:
        """The rows as text, under `HEAD`."""
        return [self._cells(row) for row in self.rows]

    def table(self) -> str:
        """The whole as text."""
        return "\n".join([self.told, "", *aligned([HEAD, *self.cells()]), "", f"{self.measured}."])

    def document(self) -> dict[str, Any]:
        """As plain data."""
        best, dense = self.best, self.best_dense
        named = {"best": best.engine if best else None, "best_dense": dense.engine if dense else None, "told": self.told}
        return {**named, **asdict(self)}

    def _cells(self, row: Row) -> tuple[str, ...]:
        times = ("", "", "", "")
        if row.ms is not None and row.spread is not None:
            share = "" if row.ratio is None or row.ratio_spread is None else f"{row.ratio:.2f} ({_range(row.ratio_spread)})"
            limit = "" if row.limit_ms is None else reached(row.limit_ms, row.ms)
            times = (f"{row.ms:.3g}", _range(row.spread), share, limit)
        size = "" if row.nbytes is None else f"{row.nbytes / 1e6:.3g}"
        error = "" if row.error is None else f"{row.error:.0e}" if row.error else "0"
        ready = "" if row.ready_s is None else f"{row.ready_s:.1f}"
        return (row.engine, size, error, ready, *times, self._note(row))

    def _note(self, row: Row) -> str:
        if row.why is not None:
            return row.why
        if not row.holds:
            return f"its outputs differ by more than {self.tolerance:g}"
        return "; ".join(filter(None, ["deploy on this" if row is self.best else "", row.note]))


def _fastest(rows: Iterator[Row] | tuple[Row, ...]) -> Row | None:
    return min((row for row in rows if row.holds and row.ms is not None), key=lambda row: row.ms or 0.0, default=None)


def _range(spread: tuple[float, float]) -> str:
    return f"{spread[0]:.3g} to {spread[1]:.3g}"

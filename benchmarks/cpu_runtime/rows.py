"""Rows on disk: one run a line, written as soon as it is there; the next call of the same protocol goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cpu_runtime.cells import Setting

from pomona.native import library
from pomona.runtime import machine
from pomona.runtime.roofline import Roofline
from pomona.runtime.timing import Pairs, quantile
from pomona.vocabulary import sha256


@dataclass(frozen=True)
class Result:
    """One contender: bytes of its weight, operations of one call, seconds of every round.

    `side` is "dense", "sparse", "deepsparse", or "limit" of what does nothing but multiply or read.
    """

    name: str
    side: str
    sparsity: float
    pattern: str
    values: str
    nbytes: int
    operations: int
    seconds: tuple[float, ...] = ()

    def with_seconds(self, seconds: Sequence[float]) -> Result:
        """The same, timed."""
        return replace(self, seconds=tuple(seconds))

    @property
    def median(self) -> float:
        """Seconds."""
        return quantile(sorted(self.seconds), 0.5)

    @property
    def least(self) -> float:
        """The 10 % quantile: what the machine gives while nobody else holds the core."""
        return quantile(sorted(self.seconds), 0.1)

    def over(self, other: Result) -> tuple[float, float, float]:
        """How many times as fast as the other, round by round: median, 10 % and 90 % quantiles."""
        ratios = Pairs(self.seconds, other.seconds).ratios
        return quantile(ratios, 0.5), quantile(ratios, 0.1), quantile(ratios, 0.9)


@dataclass(frozen=True)
class Row:
    """One run."""

    setting: Setting
    clock: str
    limits: Roofline
    machine: dict[str, Any]
    results: tuple[Result, ...]

    @classmethod
    def of(cls, setting: Setting, clock: str, limits: Roofline, results: tuple[Result, ...]) -> Row:
        """With the machine that we are on."""
        return cls(setting, clock, limits, here(), results)

    @property
    def rounds(self) -> int:
        """Of every contender."""
        return len(self.results[0].seconds)

    @property
    def best(self) -> Result:
        """The fastest dense float32 engine of the run; DeepSparse on a dense weight is one."""
        dense = (r for r in self.results if r.side in ("dense", "deepsparse") and r.sparsity == 0)
        return min(dense, key=lambda result: result.median)

    @property
    def bursts(self) -> tuple[Result, ...]:
        """The run's own limits: what the cores multiplied and the memory gave in each of its rounds."""
        return tuple(r for r in self.results if r.side == "limit")

    def of_limit(self, result: Result) -> float:
        """The least time that the machine allows, as a share of the time that was measured.

        It is compared round by round with the run's bursts where there are such, else with the rates measured beforehand.
        """
        int8 = result.values == "int8"
        reading = self.limits.seconds(result.nbytes, 0, self.setting.cold) / result.median
        working = self.limits.seconds(0, result.operations, int8=int8) / result.median
        for burst in self.bursts:
            times = result.over(burst)[0]
            if burst.nbytes:
                reading = times * result.nbytes / burst.nbytes
            elif not int8:
                working = times * result.operations / burst.operations
        return max(reading, working)

    def find(self, layout: str, pattern: str, sparsity: float, values: str = "f32") -> list[Result]:
        """The sparse contenders of this kind; `layout` may be "" for any."""
        wanted = (pattern, sparsity, values)
        sparse = (r for r in self.results if r.side == "sparse" and r.name.startswith(layout))
        return [r for r in sparse if (r.pattern, r.sparsity, r.values) == wanted]


def here() -> dict[str, Any]:
    """What must be equal for rows to be kept: processor, versions, and the kernels themselves."""
    path = library().path
    about = {name: value for name, value in machine().items() if name != "threads"}
    return {**about, "kernels": None if path is None else sha256(path)[:12]}


def read(path: Path) -> list[Row]:
    """All rows; of rows of one setting the last."""
    return list({row.setting: row for row in _rows(path)}.values()) if path.is_file() else []


def append(path: Path, row: Row) -> None:
    """One more line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = asdict(row)
    for result in rounded["results"]:
        result["seconds"] = [float(f"{s:.4g}") for s in result["seconds"]]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")


def _rows(path: Path) -> Iterator[Row]:
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        results = tuple(Result(**{**r, "seconds": tuple(r["seconds"])}) for r in found["results"])
        yield Row(Setting.of(found["setting"]), found["clock"], Roofline(**found["limits"]), found["machine"], results)

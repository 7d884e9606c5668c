"""Rows on disk: one JSON object a line, written as soon as it is there, kept by the next run of the same protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CALIBRATION = 16  # windows that all methods are compared with


@dataclass(frozen=True)
class Protocol:
    """What must be equal for rows to stand in one table. `length` in tokens, the others in windows of that length."""

    text: str  # its checksum
    calibration: int = CALIBRATION
    held_out: int = 16
    length: int = 512


@dataclass(frozen=True, order=True)
class Wanted:
    """What names a row."""

    model: str
    method: str
    point: str
    seed: int


@dataclass(frozen=True)
class Row:
    """One model pruned once.

    `sparsity` is the share of zeros among the weights of the blocks, `parameters` the size, both counted on the model that
    came out; `seconds` is the processor time of pruning alone, calibration and proof included; `commit` is of Pomona.
    `cpu` is the processor, "" in rows that are older than this word.
    """

    model: str
    method: str
    point: str
    seed: int
    perplexity: float
    sparsity: float
    parameters: int
    seconds: float
    commit: str
    torch: str
    protocol: Protocol
    cpu: str = ""

    @property
    def wanted(self) -> Wanted:
        """Its name."""
        return Wanted(self.model, self.method, self.point, self.seed)


def read(folder: Path, protocol: Protocol | None = None) -> list[Row]:
    """All rows under `folder`, of one protocol where one is given; of rows of one name the last."""
    found: dict[tuple[Wanted, Protocol], Row] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            given = json.loads(line)
            row = Row(**{**given, "protocol": Protocol(**given["protocol"])})
            found[row.wanted, row.protocol] = row
    return [row for row in found.values() if protocol is None or row.protocol == protocol]


def append(folder: Path, row: Row) -> None:
    """One more line in the file of its model."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{row.model}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def missing(wanted: Sequence[Wanted], rows: Sequence[Row]) -> list[Wanted]:
    """Those that are not there yet, in their order."""
    there = {row.wanted for row in rows}
    return [name for name in wanted if name not in there]

"""What was measured of packed layers on this machine, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pomona.native import library
from pomona.runtime.machine import machine
from pomona.runtime.timing import threads_set
from pomona.vocabulary import InputError, cache_folder, first_line, sha256, write_atomically

FORMAT = 1
DENSE = "dense torch"


@dataclass(eq=False)
class Table:
    """Seconds by case (shape, batch, zeros, ...) and candidate, for one CPU, torch, library of kernels and thread count.

    `notes` say where a damaged file was measured anew.
    """

    threads: int
    path: Path
    known: dict[str, dict[str, float]] = field(default_factory=dict)
    new: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, threads: int) -> Table:
        """The table of this machine, as far as it has been measured before."""
        about = _about(threads)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        table = cls(threads, cache_folder() / f"sparse-times-{digest}.json")
        table.known = table._read()
        return table

    def seconds(
        self, case: str, names: Sequence[str], measure: Callable[[], Mapping[str, float]]
    ) -> Mapping[str, float]:  # fmt: skip
        """The times of these candidates and of `DENSE`; where one is unknown, what `measure` finds, which is then kept.

        All of a case are measured together, since only then can they be compared.
        """
        if not {DENSE, *names} <= self.known.get(case, {}).keys():
            self.new[case] = self.known[case] = self.known.get(case, {}) | dict(measure())
        return self.known[case]

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Torch as it is while models are timed; what was measured is in the file afterwards, even after an error."""
        try:
            with threads_set(self.threads), torch.inference_mode(), torch.random.fork_rng(devices=[]):
                yield
        finally:
            self.save()

    def save(self) -> None:
        """Add what is new to the file, which may have grown meanwhile."""
        if self.new:
            self.known = self._read() | self.known
            written = {"format": FORMAT, **_about(self.threads), "seconds": self.known}
            write_atomically(self.path, json.dumps(written, indent=0).encode())
            self.new = {}

    def _read(self) -> dict[str, dict[str, float]]:
        if not self.path.is_file():
            return {}
        try:
            found = json.loads(self.path.read_bytes())
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise InputError("it has another format")
            return {str(case): {str(n): float(s) for n, s in times.items()} for case, times in found["seconds"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.notes.append(f"The table of layer times {self.path} cannot be read ({first_line(error)}); it is measured anew.")
            return {}


def _about(threads: int) -> dict[str, Any]:
    here, kernels = machine(), library()
    built = None if kernels.path is None else sha256(kernels.path)[:16]
    return {
        "format": FORMAT,
        "cpu": here["cpu"],
        "torch": here["torch"],
        "threads": threads,
        "isa": kernels.isa,
        "kernels": built,
    }

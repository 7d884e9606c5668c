"""How long ops take on this machine: measured once, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pomona.runtime.machine import machine
from pomona.runtime.made import Made
from pomona.runtime.timing import median_seconds, threads_set
from pomona.vocabulary import InputError, cache_folder, first_line, write_atomically

FORMAT = 1


@dataclass(eq=False)
class Times:
    """Seconds by op and shapes, for one CPU, one torch and one number of threads; what is asked for is measured if need be.

    `notes` say what went wrong on the way: a damaged file, an op that does not run on made-up inputs (its time counts as
    none).
    """

    threads: int
    path: Path
    known: dict[str, float] = field(default_factory=dict)
    new: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, threads: int) -> Times:
        """The table of this machine, as far as it has been measured before. A damaged file is measured anew, and noted."""
        about = _about(threads)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        times = cls(threads, cache_folder() / f"op-times-{digest}.json")
        times.known = times._read()
        return times

    def seconds(self, made: Made) -> float:
        """The median time of one call, its inputs in memory; measured at the first asking. Only inside `measuring`."""
        name = made.name
        if name not in self.known:
            self.known[name] = self.new[name] = self._measured(made)
        return self.known[name]

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

    def _measured(self, made: Made) -> float:
        call: Callable[[], Any] = made.ready()
        try:
            call()
        # The op is anybody's and its inputs are made up: whatever it raises means that it cannot be timed by itself.
        except Exception as error:
            self.notes.append(f"{made.target} cannot be timed by itself ({first_line(error)}); the table counts it as nothing.")
            return 0.0
        return median_seconds(call)

    def _read(self) -> dict[str, float]:
        if not self.path.is_file():
            return {}
        try:
            found = json.loads(self.path.read_bytes())
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise InputError("it has another format")
            return {str(name): float(value) for name, value in found["seconds"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.notes.append(f"The table of op times {self.path} cannot be read ({first_line(error)}); it is measured anew.")
            return {}


def _about(threads: int) -> dict[str, Any]:
    here = machine()
    return {"format": FORMAT, "cpu": here["cpu"], "torch": here["torch"], "threads": threads}

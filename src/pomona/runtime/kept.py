"""Measurements of this machine, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from typing_extensions import Self

from pomona.runtime.machine import machine
from pomona.runtime.timing import threads_set
from pomona.vocabulary import InputError, cache_folder, first_line, write_atomically

T = TypeVar("T")


def kept_at(kind: str, about: Mapping[str, Any]) -> Path:
    """Where measurements of a kind lie that hold for what `about` says."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{kind}-{digest}.json"


def here_on(threads: int) -> dict[str, Any]:
    """What every time depends on: the CPU, torch, and the number of threads."""
    found = machine()
    return {"cpu": found["cpu"], "torch": found["torch"], "threads": threads}


@dataclass(eq=False)
class Kept(ABC, Generic[T]):
    """A table of what was measured with so many threads, by name, as far as it was asked for.

    `notes` say what went wrong on the way, such as a damaged file, which is measured anew.
    """

    kind: ClassVar[str]  # as files are named
    what: ClassVar[str]  # as users are told
    format: ClassVar[int]

    threads: int
    path: Path
    known: dict[str, T] = field(default_factory=dict)
    new: dict[str, T] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, threads: int) -> Self:
        """The table of this machine, as far as it has been measured before. A damaged file is measured anew, and noted."""
        table = cls(threads, kept_at(cls.kind, cls.about(threads)))
        table.known = table._read()
        return table

    @classmethod
    def about(cls, threads: int) -> dict[str, Any]:
        """What the times hold for: another file for anything else."""
        return {"format": cls.format, **here_on(threads)}

    @classmethod
    @abstractmethod
    def entry(cls, found: Any) -> T:
        """One entry from plain data; raises ValueError, TypeError or AttributeError for anything else."""

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
            written = {**self.about(self.threads), "seconds": self.known}
            write_atomically(self.path, json.dumps(written, indent=0).encode())
            self.new = {}

    def _read(self) -> dict[str, T]:
        if not self.path.is_file():
            return {}
        try:
            found = json.loads(self.path.read_bytes())
            if not isinstance(found, dict) or found.get("format") != self.format:
                raise InputError("it has another format")
            return {str(name): self.entry(value) for name, value in found["seconds"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.notes.append(f"The table of {self.what} {self.path} cannot be read ({first_line(error)}); it is measured anew.")
            return {}

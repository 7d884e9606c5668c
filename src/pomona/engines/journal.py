"""What a run leaves on disk, round after round or block after block, so that it can go on after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from pomona.engines.decide import Ground
from pomona.processes import Processes
from pomona.training.checkpoint import fingerprint, load, save
from pomona.vocabulary import Batch, InputError

FILE = "rounds.safetensors"


@dataclass(frozen=True)
class Journal:
    """One file in a folder, rewritten whole after every round, and the folders of the recoveries beside it; or one a block.

    `run` says which run it is: its model, recipe, goal, limits, seed and data, as text. Of several `processes` the first reads
    and writes, and all get what it reads.
    """

    folder: Path
    run: Mapping[str, str]
    processes: Processes = field(default_factory=Processes)

    @classmethod
    def of(cls, folder: Path, model: nn.Module, ground: Ground, first: Batch | None, batches: int) -> Journal:
        """The journal of this run; `first` is the first of so many `batches` of calibration data. Nothing is written yet."""
        limits = json.dumps(asdict(ground.limits), sort_keys=True)
        run = {
            "model": fingerprint(model, {}, Batch()),
            "recipe": str(ground.recipe),
            "goal": str(ground.goal),
            "limits": limits,
            "seed": str(ground.seed),
            "data": fingerprint(nn.Module(), {"batches": batches}, first or Batch()),
            "order of layers": str(ground.layerwise),
        }
        return cls(folder, run, ground.processes)

    def read(self, name: str = FILE) -> dict[str, Any] | None:
        """What `write` was given last under this name; None where nothing was. Raises InputError on another run's journal."""
        return self.processes.of_first(lambda: self._read(name))

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        saved = load(path)
        there = saved.get("run", {})
        other = [word for word, value in self.run.items() if there.get(word) != value]
        if other:
            raise InputError(
                f"{self.folder} holds the checkpoints of a run with another {' and '.join(other)}; "
                "repeat that run exactly, or choose another folder."
            )
        state: dict[str, Any] = saved["state"]
        return state

    def write(self, state: Mapping[str, Any], name: str = FILE) -> None:
        """Replace the file of this name, whole or not at all."""
        if self.processes.first:
            save(self.folder / name, {"run": dict(self.run), "state": state})

    def of_round(self, number: int) -> Path:
        """Where the recovery of a round puts its own checkpoints; -1 is the training before the first cut."""
        return self.folder / (f"round-{number + 1}" if number >= 0 else "before")

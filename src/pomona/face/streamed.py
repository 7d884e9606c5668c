"""What a streamed run leaves behind: a folder, its decisions by block, and a report without the model ever being whole."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from pomona import __version__
from pomona.engines.decide import Ground
from pomona.engines.masks import plan_of
from pomona.engines.sequential import Cut
from pomona.face.report import Report
from pomona.face.sentence import sentence
from pomona.graph import Graph
from pomona.models import load_model
from pomona.runtime.machine import machine
from pomona.vocabulary import Plan, Site

PLANS = "plans"  # one file a block


@dataclass(frozen=True, eq=False)
class Streamed:
    """A folder that `from_pretrained` opens, and the report, which is also in its `report.json`."""

    folder: Path
    report: Report

    @property
    def plan(self) -> Plan:
        """The decisions of all blocks, read from the folder: a byte of memory for each weight."""
        pieces = [Plan.load(path) for path in sorted((self.folder / PLANS).iterdir())]
        sites = {name: site for piece in pieces for name, site in piece.sites.items()}
        decisions = {name: decision for piece in pieces for name, decision in piece.decisions.items()}
        return Plan(sites, decisions, pieces[0].provenance)

    def load(self) -> nn.Module:
        """The pruned model, whole, in memory."""
        return load_model(str(self.folder)).model


@dataclass(eq=False)
class Record:
    """Takes the cuts of a run one after the other: masks go to `folder`, numbers stay."""

    folder: Path
    ground: Ground
    left: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    _written: int = 0

    def add(self, cut: Cut) -> None:
        """Write the masks down."""
        sites = [site for site in self.ground.sites if site.name in cut.alive]
        self.left |= {name: int(keep.sum()) for name, keep in cut.alive.items()}
        self.errors |= {} if cut.error is None else {cut.block: cut.error}
        self.lost |= cut.lost
        self.notes += [note for note in cut.notes if note not in self.notes]
        self.outside += [] if cut.block else [member.tensor for site in sites for member in site.members]
        if sites:
            self._written += 1
            self.folder.mkdir(parents=True, exist_ok=True)
            plan = replace(plan_of(self.ground.recipe.structure, sites, cut.alive, {}), provenance=self._provenance)
            plan.save(self.folder / f"block-{self._written:04d}.safetensors")

    @property
    def _provenance(self) -> dict[str, Any]:
        ground = self.ground
        return {"method": ground.method, "recipe": str(ground.recipe), "goal": str(ground.goal), "seed": ground.seed}

    def report(self, graph: Graph, kind: str, source: Path, told: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a report that can be told without the whole model, and `blocks`, `memory` and `seconds`."""
        gone = sum(site.units - self.left[site.name] for site in self.ground.sites)
        params, recipe, goal = sum(weight.size for weight in graph.weights.values()), self.ground.recipe, self.ground.goal
        return {
            "pomona": __version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "command": told["command"],
            "seed": self.ground.seed,
            "machine": machine(),
            "model": {"name": source.name, "class": kind, "source": f"transformers:{source}"},
            "recipe": {"method": self.ground.method, "text": str(recipe), "sentence": sentence(recipe, goal)},
            "goal": str(goal),
            "params": {"before": params, "after": params},
            "nonzeros": {"before": params, "after": params - gone},
            "sites": [self._site(site) for site in self.ground.sites],
            "blocks": [{"name": name, "error": error} for name, error in self.errors.items()],
            "memory": dict(told["memory"]),
            "seconds": told["seconds"],
            "notes": self.notes,
            "out": told["out"],
        }

    def _site(self, site: Site) -> dict[str, Any]:
        return {
            "name": site.name,
            "kind": site.kind,
            "before": site.units,
            "after": self.left[site.name],
            "error": self.lost.get(site.name),
        }

"""The one-shot and iterative engine: rounds of decide, impose, recover on the full-size model; one plan at the end.

Rounds run on the masked model at its full size, so that masks, scores and rewinding mean the same in every round; the
surgery comes once, after the last cut. A recovery that the schedule asks for after that cut is left to the caller, who
runs it on the realised (smaller, faster) model. With a journal a killed run goes on after its last whole round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pomona.collect import collect
from pomona.engines.decide import Ground, decide, write
from pomona.engines.journal import Journal
from pomona.engines.masks import everyone, extent, impose, tensor_masks
from pomona.engines.remembered import Remembered
from pomona.graph.masked import skipping
from pomona.training.batches import seeded
from pomona.training.checkpoint import restore, values
from pomona.vocabulary import (
    Batch,
    Clock,
    Drop,
    Gathered,
    Loss,
    Plan,
    Progress,
    Prune,
    Recover,
    Regrow,
    Silent,
    Statistic,
    Training,
)

MakeTraining = Callable[[Callable[[nn.Module], None], dict[str, dict[str, Tensor]]], Training]


@dataclass(frozen=True, eq=False)
class Outcome:
    """`model` is masked at full size, `plan` says who stays, `rounds` what each cost.

    `recover` says that a recovery is still due.
    """

    model: nn.Module
    plan: Plan
    rounds: tuple[Mapping[str, Any], ...]
    recover: bool


def run(
    model: nn.Module,
    ground: Ground,
    *,
    batches: Iterable[Batch],
    loss: Loss | None = None,
    training: MakeTraining | None = None,
    judge: Callable[[nn.Module], float] | None = None,
    progress: Progress | None = None,
    journal: Journal | None = None,
    remembered: Remembered | None = None,
) -> Outcome:
    """Drive a recipe whose schedule counts rounds until it has nothing more to do. `model` stays untouched.

    `training` makes what a recovery is given (None: recoveries between rounds are skipped), `judge` measures the
    quality after each cut and each recovery. With a `journal` the run is written down after every round, and one that
    was killed goes on from there and ends bit-identical to one that was not. What the first cut needs of the dense model may be
    `remembered`.
    """
    return _Run(deepcopy(model), ground, batches, loss, training, judge, progress or Silent(), journal, remembered).go()


_STATE = ("next", "due", "alive", "solved", "dropped", "rounds", "snapshots", "notes", "lost")


class _Run:
    """The state of one run; lives as long as the call."""

    def __init__(
        self,
        model: nn.Module,
        ground: Ground,
        batches: Iterable[Batch],
        loss: Loss | None,
        training: MakeTraining | None,
        judge: Callable[[nn.Module], float] | None,
        progress: Progress,
        journal: Journal | None,
        remembered: Remembered | None,
    ) -> None:
        self.model, self.ground, self.batches, self.loss = model, ground, batches, loss
        self.training, self.judge, self.progress, self.journal = training, judge, progress, journal
        self.remembered = remembered
        self.next, self.due = -1, False  # round -1 is the training before the first cut
        self.alive = everyone(ground.sites)
        self.solved: dict[str, Mapping[str, Tensor]] = {}
        self.dropped: dict[str, int] = {}
        self.rounds: list[dict[str, Any]] = []
        self.notes: list[str] = []  # what solvers said
        self.lost: dict[str, float] = {}  # and what they know of the error of a site
        self.snapshots = {"start": values(model)} if self._rewinds else {}

    @property
    def _rewinds(self) -> bool:
        return getattr(self.ground.recipe.recovery, "rewinds", False)

    def go(self) -> Outcome:
        schedule = self.ground.recipe.schedule
        if self.journal and (state := self.journal.read()) is not None:
            self.resume(state)
        if self.next < 0:
            if getattr(schedule, "first_train", False):
                self.recover()
            self.turn()
        with self.progress.stage("pruning", getattr(schedule, "n", 1)) as stage:
            stage.advance(self.next)
            while actions := schedule.actions(Clock(round=self.next), self.ground.goal):
                ahead = schedule.actions(Clock(round=self.next + 1), self.ground.goal)
                for action in actions:
                    if isinstance(action, Recover):
                        self.due = not ahead and not self._rewinds
                        if not self.due:
                            self.recover()
                    else:
                        self.cut(action)
                self.turn()
                stage.advance(1, left=f"{self.left:.1%}")
        return Outcome(self.model, self.plan, tuple(self.rounds), self.due)

    def turn(self) -> None:
        """The round is over; write it down."""
        self.next += 1
        if self.journal:
            self.journal.write({name: getattr(self, name) for name in _STATE} | {"model": values(self.model)})

    def resume(self, state: Mapping[str, Any]) -> None:
        """Be where the journal's last round ended."""
        restore(self.model, state["model"])
        for name in _STATE:
            setattr(self, name, state[name])

    @property
    def left(self) -> float:
        """Share of the price that is left."""
        price = self.ground.price
        return price({name: mask.sum() for name, mask in self.alive.items()}) / price.dense

    @property
    def plan(self) -> Plan:
        plan = self.ground.plan(self.alive, self.solved)
        told = {name: value for name, value in (("notes", self.notes), ("errors", self.lost)) if value}
        return replace(plan, provenance={**plan.provenance, **told})

    def cut(self, action: Prune | Drop | Regrow) -> None:
        tensors = {name: parameter.detach() for name, parameter in self.model.named_parameters(remove_duplicate=False)}
        decisions = decide(self.ground, action, tensors, self.alive, self.gather, self.dropped, self.next)
        write(self.model, decisions)
        alive = {name: decision.keep for name, decision in decisions.items()}
        if isinstance(action, Drop):
            self.dropped = {name: int(self.alive[name].sum() - keep.sum()) for name, keep in alive.items()}
        self.alive = alive
        self.notes = list(dict.fromkeys([*self.notes, *(note for decision in decisions.values() for note in decision.notes)]))
        self.solved |= {name: d.tensors for name, d in decisions.items() if d.tensors}
        self.lost |= {name: d.error for name, d in decisions.items() if d.error is not None}
        self.hold(self.model)
        size, density = extent(self.ground.recipe.structure, self.ground.sites, self.alive)
        self.rounds.append({"round": self.next, "sizes": size, "densities": density, "quality": self.quality()})

    def hold(self, model: nn.Module) -> None:
        """Re-impose the masks."""
        impose(model, tensor_masks(self.ground.recipe.structure, self.ground.sites, self.alive))

    def gather(self, needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        dense = self.next == 0 and not getattr(self.ground.recipe.schedule, "first_train", False)
        if self.remembered and dense:
            return self.remembered.over("model", self.ground.sites, self.collected)(needs)
        return self.collected(needs)

    def collected(self, needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        """The statistics of the model as it now is."""
        # Loaders that shuffle by torch's global generator give the same batches every time, in a resumed run too.
        with skipping(self.model, self.plan), seeded(self.ground.seed, self.next + 1):
            mine = self.ground.processes.share(self.batches)
            return collect(self.model, self.ground.sites, needs, mine, self.loss, self.progress, self.ground.processes)

    def quality(self) -> float | None:
        if self.judge is None:
            return None
        with skipping(self.model, self.plan):
            return self.judge(self.model)

    def recover(self) -> None:
        recovery = self.ground.recipe.recovery
        if recovery is None or self.training is None:
            return
        training = self.training(self.hold, self.snapshots)
        if self.journal:
            training = replace(training, folder=self.journal.of_round(self.next))
        with skipping(self.model, self.plan), seeded(self.ground.seed, self.next + 1), torch.enable_grad():
            recovery.recover(self.model, training)
        self.solved = {}  # trained since: the plan must not bring the solver's weights back
        if self.rounds:
            self.rounds[-1]["recovered"] = self.quality()

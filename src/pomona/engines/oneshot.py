"""The one-shot and iterative engine: rounds of decide, impose, recover on the full-size model; one plan at the end.

Rounds run on the masked model at its full size, so that masks, scores and rewinding mean the same in every round; the
surgery comes once, after the last cut. A recovery that the schedule asks for after that cut is left to the caller, who
runs it on the realised (smaller, faster) model.
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
from pomona.engines.masks import everyone, extent, impose, plan_of, tensor_masks
from pomona.graph.masked import skipping
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
    """`model` is masked at full size, `plan` says who stays at what `price`, `rounds` what each cost.

    `recover` says that a recovery is still due.
    """

    model: nn.Module
    plan: Plan
    price: float
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
) -> Outcome:
    """Drive a recipe whose schedule counts rounds until it has nothing more to do. `model` stays untouched.

    `training` makes what a recovery is given (None: recoveries between rounds are skipped), `judge` measures the
    quality after each cut and each recovery.
    """
    return _Run(deepcopy(model), ground, batches, loss, training, judge, progress or Silent()).go()


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
    ) -> None:
        self.model, self.ground, self.batches, self.loss = model, ground, batches, loss
        self.training, self.judge, self.progress = training, judge, progress
        self.alive = everyone(ground.sites)
        self.solved: dict[str, Mapping[str, Tensor]] = {}
        self.dropped: dict[str, int] = {}
        self.rounds: list[dict[str, Any]] = []
        self.snapshots = {"start": {name: tensor.clone() for name, tensor in model.state_dict().items()}} if self._rewinds else {}

    @property
    def _rewinds(self) -> bool:
        return getattr(self.ground.recipe.recovery, "rewinds", False)

    def go(self) -> Outcome:
        schedule, clock = self.ground.recipe.schedule, Clock()
        due = False
        if getattr(schedule, "first_train", False):
            self.recover()
        with self.progress.stage("pruning", getattr(schedule, "n", 1)) as stage:
            while actions := schedule.actions(clock, self.ground.goal):
                ahead = schedule.actions(replace(clock, round=clock.round + 1), self.ground.goal)
                for action in actions:
                    if isinstance(action, Recover):
                        due = not ahead and not self._rewinds
                        if not due:
                            self.recover()
                    else:
                        self.cut(action, clock)
                stage.advance(1, left=f"{self.left:.1%}")
                clock = replace(clock, round=clock.round + 1)
        return Outcome(self.model, self.plan, self.left * self.ground.price.dense, tuple(self.rounds), due)

    @property
    def left(self) -> float:
        """Share of the price that is left."""
        price = self.ground.price
        return price({name: mask.sum() for name, mask in self.alive.items()}) / price.dense

    @property
    def plan(self) -> Plan:
        return plan_of(self.ground.recipe.structure, self.ground.sites, self.alive, self.solved)

    def cut(self, action: Prune | Drop | Regrow, clock: Clock) -> None:
        tensors = {name: parameter.detach() for name, parameter in self.model.named_parameters(remove_duplicate=False)}
        decisions = decide(self.ground, action, tensors, self.alive, self.gather, self.dropped, clock.round)
        write(self.model, decisions)
        alive = {name: decision.keep for name, decision in decisions.items()}
        if isinstance(action, Drop):
            self.dropped = {name: int(self.alive[name].sum() - keep.sum()) for name, keep in alive.items()}
        self.alive = alive
        self.solved |= {name: d.tensors for name, d in decisions.items() if d.tensors}
        self.hold(self.model)
        size, density = extent(self.ground.recipe.structure, self.ground.sites, self.alive)
        self.rounds.append({"round": clock.round, "sizes": size, "densities": density, "quality": self.quality()})

    def hold(self, model: nn.Module) -> None:
        """Re-impose the masks."""
        impose(model, tensor_masks(self.ground.recipe.structure, self.ground.sites, self.alive))

    def gather(self, needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        with skipping(self.model, self.plan):
            return collect(self.model, self.ground.sites, needs, self.batches, self.loss, self.progress)

    def quality(self) -> float | None:
        if self.judge is None:
            return None
        with skipping(self.model, self.plan):
            return self.judge(self.model)

    def recover(self) -> None:
        recovery = self.ground.recipe.recovery
        if recovery is None or self.training is None:
            return
        with skipping(self.model, self.plan), torch.enable_grad():
            recovery.recover(self.model, self.training(self.hold, self.snapshots))
        if self.rounds:
            self.rounds[-1]["recovered"] = self.quality()

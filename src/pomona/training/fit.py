"""The plain training loop: warm-up and cosine, the best state kept, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pomona.training.batches import length, of_epoch, onto
from pomona.training.batchnorm import batch_norms
from pomona.training.checkpoint import fingerprint, load, restore, save, values
from pomona.training.descent import Descent
from pomona.training.objectives import Objective
from pomona.vocabulary import Batch, InputError, Progress, Silent, Stage, generator, modes_kept, set_training

CHECKPOINT = "fit.safetensors"


def fit(
    model: nn.Module,
    data: Iterable[Any],
    objective: Objective,
    descent: Descent | None = None,
    *,
    epochs: int,
    steps: int = 0,
    hold: Callable[[nn.Module], None] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    keep: Literal["best", "last"] = "best",
    begin: int = 0,
    watch: Callable[[int, nn.Module], None] | None = None,
    folder: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    name: str = "training",
) -> dict[str, Any]:
    """Train in place for `epochs` over `data` (or for that many `steps`, where they are given); returns plain numbers.

    These are `loss` and `quality` by epoch, `steps` and `best_epoch`. The model ends in its best state: by `validate` (higher
    is better; the starting point competes too, epoch -1), else by the mean training loss of an epoch (steps may cut the last
    one short); `keep="last"` leaves the last one. `hold` runs after every optimiser step, `watch(step, model)` before it.
    `begin` starts at that step of the whole course, learning rate and data order included (rewinding).

    With a `folder` a checkpoint is written after every epoch; a run that is started again from the same weights and data
    with the same settings goes on there and ends bit-identical, and the checkpoint of another run is overwritten. Train
    and eval flags and torch's generator are as they were. Raises InputError on empty data and where the loss stops being
    a number; the model is then back in its best state. Weights in float16 are refused: what Adam divides by rounds to zero.
    """
    if half := next((name for name, p in model.named_parameters() if p.requires_grad and p.dtype == torch.float16), None):
        raise InputError(f"{half} is in float16, whose range is too small to train in; take model.bfloat16() or model.float().")
    hooks = _Hooks(hold or _nothing, watch or _nothing, validate)
    run = _Run(
        model, data, objective, descent or Descent(), epochs, steps, begin, seed, keep, hooks, folder, progress or Silent()
    )
    with _as_found(model, run.device):
        run.start()
        with run.progress.stage(name, total=max(0, run.steps - run.course.step)) as stage:
            while run.course.step < run.steps:
                run.epoch(stage)
        restore(model, run.best)
        run.optimizer.zero_grad(set_to_none=True)
    course = run.course
    return {"loss": course.loss, "quality": course.quality, "best_epoch": course.best_epoch, "steps": course.step - begin}


@dataclass(frozen=True)
class _Hooks:
    """What the caller does around steps and epochs."""

    hold: Callable[[nn.Module], None]
    watch: Callable[[int, nn.Module], None]
    validate: Callable[[nn.Module], float] | None


@dataclass
class _Course:
    """Where a fit stands between two epochs; all that a checkpoint holds besides weights and optimiser."""

    epoch: int = 0
    step: int = 0
    best_worth: float = float("-inf")
    best_epoch: int = -1
    loss: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)


class _Run:
    """The state of one fit; lives as long as the call."""

    def __init__(
        self,
        model: nn.Module,
        data: Iterable[Any],
        objective: Objective,
        descent: Descent,
        epochs: int,
        steps: int,
        begin: int,
        seed: int,
        keep: str,
        hooks: _Hooks,
        folder: Path | None,
        progress: Progress,
    ) -> None:
        self.model, self.data, self.objective, self.descent = model, data, objective, descent
        self.seed, self.keep, self.hooks, self.progress = seed, keep, hooks, progress
        self.per_epoch = length(data)
        self.steps = steps or epochs * self.per_epoch
        self.settings = {
            "steps": self.steps,
            "epochs": epochs,
            "begin": begin,
            "seed": seed,
            "keep": keep,
            "validated": bool(hooks.validate),
            **asdict(descent),
        }
        self.device = next(model.parameters()).device
        self.optimizer = descent.build(model.parameters())
        self.course, self.best = _Course(epoch=begin // self.per_epoch, step=begin), values(model)
        self.path, self.origin = folder / CHECKPOINT if folder else None, ""

    def start(self) -> None:
        """Go on from this very run's checkpoint, or let the starting point compete."""
        if self.path:
            torch.manual_seed(generator(self.seed, 0).initial_seed())
            self.origin = fingerprint(self.model, self.settings, next(of_epoch(self.data, 0, self.seed)))
        if self.path and self.path.is_file():
            saved = load(self.path)
            if saved["origin"] == self.origin:
                self.course = _Course(**saved["course"])
                restore(self.model, saved["model"])
                self.optimizer.load_state_dict(saved["optimizer"])
                self.best = {name: value.to(self.best[name].device) for name, value in saved["best"].items()}
                return
            self.progress.note(f"{self.path} belongs to another run; training starts anew.")
        if self.hooks.validate:
            self.course.best_worth = self.hooks.validate(self.model)

    def epoch(self, stage: Stage) -> None:
        """Train to the end of the epoch, judge, remember, save."""
        course = self.course
        course.loss.append(self.walk(stage))
        worth = -course.loss[-1]
        if self.hooks.validate:
            worth = self.hooks.validate(self.model)
            course.quality.append(worth)
        if self.keep == "last" or worth > course.best_worth:
            course.best_worth, course.best_epoch, self.best = worth, course.epoch, values(self.model)
        course.epoch += 1
        if self.path:
            now = {"model": values(self.model), "best": self.best, "optimizer": self.optimizer.state_dict()}
            save(self.path, {"origin": self.origin, "course": asdict(course), **now})

    def walk(self, stage: Stage) -> float:
        """What is left of the epoch, step by step; returns the mean loss."""
        course, total, skip = self.course, 0.0, self.course.step - self.course.epoch * self.per_epoch
        set_training(self.model, True)
        if self.descent.norms == "kept":
            for norm in batch_norms(self.model):
                norm.training = False
        torch.manual_seed(generator(self.seed, course.epoch).initial_seed())
        seen = 0
        for seen, batch in enumerate(self.batches(), 1):
            if seen > skip:
                total += self.step(batch)
                stage.advance(1, epoch=course.epoch + 1, loss=total / (seen - skip))
        if seen < self.due:
            raise InputError(
                f"The training data held {seen} batches in epoch {course.epoch + 1} after {self.per_epoch} before; "
                "give data that can be read again, such as a list or a DataLoader."
            )
        return total / (seen - skip)

    @property
    def due(self) -> int:
        """How many batches the epoch has before the course ends."""
        return min(self.per_epoch, self.steps - self.course.epoch * self.per_epoch)

    def batches(self) -> Iterator[Batch]:
        """Those of the epoch, never more than are due."""
        return (batch for _, batch in zip(range(self.due), of_epoch(self.data, self.course.epoch, self.seed), strict=False))

    def step(self, batch: Batch) -> float:
        """One optimiser step; returns the loss before it. A loss that is not a number moves nothing and ends the run."""
        self.hooks.watch(self.course.step, self.model)
        rate = self.descent.rate(self.course.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.descent.mixed(self.device)):
            loss: Tensor = self.objective(self.model, onto(batch, self.device))
        value = float(loss.detach())
        if not isfinite(value):
            restore(self.model, self.best)
            if _unlabelled(batch):
                raise InputError(f"The batch of step {self.course.step} has no labelled token, so it has no loss; leave it out.")
            remedy = f"lower the learning rate (it was {rate:g}), or check the data for NaN"
            raise InputError(f"The loss became {value} at step {self.course.step}; {remedy}.")
        loss.backward()  # type: ignore[no-untyped-call]
        if self.descent.clip is not None:
            nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], self.descent.clip)
        self.optimizer.step()
        self.hooks.hold(self.model)
        self.course.step += 1
        return value


def _unlabelled(batch: Batch) -> bool:
    """Whether every label of a batch is one that losses leave out, such as -100."""
    labels = batch.target
    return isinstance(labels, Tensor) and not labels.is_floating_point() and labels.numel() > 0 and bool((labels < 0).all())


@contextmanager
def _as_found(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave train/eval flags and torch's random state as they were."""
    with modes_kept(model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _nothing(*_: object) -> None:
    pass

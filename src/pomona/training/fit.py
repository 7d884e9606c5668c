"""The plain training loop: warm-up and cosine, the best state kept, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pomona.training.batches import length, of_epoch, onto
from pomona.training.checkpoint import fingerprint, load, restore, save, values
from pomona.training.descent import Descent
from pomona.training.objectives import Objective
from pomona.vocabulary import InputError, Progress, Silent, Stage, generator

CHECKPOINT = "fit.safetensors"


@dataclass
class _Course:
    """Where a fit stands between two epochs; all that a checkpoint holds besides weights and optimiser."""

    epoch: int = 0
    step: int = 0
    best_worth: float = float("-inf")
    best_epoch: int = -1
    loss: list[float] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)


def fit(
    model: nn.Module,
    data: Iterable[Any],
    objective: Objective,
    descent: Descent | None = None,
    *,
    epochs: int,
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
    """Train in place for `epochs` over `data`; returns plain numbers: `loss` and `quality` by epoch, `steps`, `best_epoch`.

    The model ends in its best state: by `validate` (higher is better; the starting point competes too, epoch -1), else by
    the mean training loss of an epoch; `keep="last"` leaves the last one. `hold` runs after every optimiser step,
    `watch(step, model)` before it. `begin` starts at that step of the whole course, learning rate and data order
    included (rewinding). With a `folder` a checkpoint is written after every epoch, and a run that is started again from
    the same weights with the same settings goes on there and ends bit-identical; the checkpoint of another run is
    overwritten. Train and eval flags and torch's generator are as they were. Raises InputError on empty data and where
    the loss stops being a number; the model is then back in its best state.
    """
    descent, progress, per_epoch = descent or Descent(), progress or Silent(), length(data)
    steps, device = epochs * per_epoch, next(model.parameters()).device
    settings = {"epochs": epochs, "steps": steps, "begin": begin, "seed": seed, "keep": keep, "validated": bool(validate)}
    origin = fingerprint(model, settings | asdict(descent)) if folder else ""
    optimizer = descent.build(model.parameters())
    course, best = _Course(epoch=begin // per_epoch, step=begin), values(model)
    path = folder / CHECKPOINT if folder else None
    with _as_found(model, device):
        if not (path and _resumed(path, origin, course, model, optimizer, best, progress)) and validate:
            course.best_worth = validate(model)
        with progress.stage(name, total=max(0, steps - course.step)) as stage:
            while course.step < steps:
                model.train()
                try:
                    mean = _epoch(model, data, objective, descent, optimizer, course, per_epoch, steps, hold, watch, seed, stage)
                except _Diverged as error:
                    restore(model, best)
                    raise InputError(str(error)) from None
                course.loss.append(mean)
                worth = validate(model) if validate else -mean
                if validate:
                    course.quality.append(worth)
                if keep == "last" or worth > course.best_worth:
                    course.best_worth, course.best_epoch, best = worth, course.epoch, values(model)
                course.epoch += 1
                if path:
                    now = {"model": values(model), "best": best, "optimizer": optimizer.state_dict()}
                    save(path, {"origin": origin, "course": asdict(course), **now})
        restore(model, best)
        optimizer.zero_grad(set_to_none=True)
    return {"loss": course.loss, "quality": course.quality, "best_epoch": course.best_epoch, "steps": course.step - begin}


class _Diverged(Exception):
    """The loss is no longer a number."""


def _epoch(
    model: nn.Module,
    data: Iterable[Any],
    objective: Objective,
    descent: Descent,
    optimizer: torch.optim.Optimizer,
    course: _Course,
    per_epoch: int,
    steps: int,
    hold: Callable[[nn.Module], None] | None,
    watch: Callable[[int, nn.Module], None] | None,
    seed: int,
    stage: Stage,
) -> float:
    """What is left of one epoch; the mean loss."""
    device, done, total = next(model.parameters()).device, 0, 0.0
    torch.manual_seed(generator(seed, course.epoch).initial_seed())
    skip = course.step - course.epoch * per_epoch
    for number, batch in enumerate(of_epoch(data, course.epoch, seed)):
        if number < skip or number >= per_epoch:
            continue
        if watch:
            watch(course.step, model)
        rate = descent.rate(course.step, steps)
        value = _step(model, objective, onto(batch, device), descent, optimizer, rate, device)
        if not isfinite(value):
            remedy = f"lower the learning rate (it was {rate:g}), or check the data for NaN"
            raise _Diverged(f"The loss became {value} at step {course.step}; {remedy}.")
        if hold:
            hold(model)
        course.step += 1
        done, total = done + 1, total + value
        stage.advance(1, epoch=course.epoch + 1, loss=total / done)
    if done + skip < per_epoch:
        raise InputError(f"The training data held {done + skip} batches in epoch {course.epoch + 1} after {per_epoch} before; "
                         "give data that can be read again, such as a list or a DataLoader.")
    return total / done


def _step(
    model: nn.Module,
    objective: Objective,
    batch: Any,
    descent: Descent,
    optimizer: torch.optim.Optimizer,
    rate: float,
    device: torch.device,
) -> float:
    """One optimiser step; the loss before it. A loss that is not a number moves nothing."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=descent.mixed(device)):
        loss: Tensor = objective(model, batch)
    value = float(loss.detach())
    if isfinite(value):
        loss.backward()  # type: ignore[no-untyped-call]
        if descent.clip is not None:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], descent.clip)
        optimizer.step()
    return value


def _resumed(
    path: Path,
    origin: str,
    course: _Course,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: Progress,
) -> bool:
    """Go on from the checkpoint at `path` if this very run wrote it."""
    if not path.is_file():
        return False
    saved = load(path)
    if saved["origin"] != origin:
        progress.note(f"{path} belongs to another run; training starts anew.")
        return False
    vars(course).update(saved["course"])
    restore(model, saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    best.update({name: value.to(best[name].device) for name, value in saved["best"].items()})
    return True


@contextmanager
def _as_found(model: nn.Module, device: torch.device) -> Any:
    """Leave train/eval flags and torch's random state as they were."""
    flags = {module: module.training for module in model.modules()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag

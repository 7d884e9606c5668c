"""Learning from the dense model: its class scores, its hidden features (Hinton et al., 2015; Romero et al., 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, mse_loss
from torch.utils.hooks import RemovableHandle

from pomona.training.objectives import Objective, logits, loss_of, own_loss, represented
from pomona.vocabulary import Batch, InputError, Loss, evaluating


def distilled(
    teacher: nn.Module,
    loss: Loss | None,
    *,
    temperature: float = 2.0,
    hard: float = 0.5,
    features: float = 0.0,
    at: Sequence[str] = (),
) -> Objective:
    """Mix: hard * loss + (1 - hard) * soft + features * hidden.

    `soft` compares outputs: T^2 * KL of softened class scores, or the relative squared error where the model returns
    hidden states instead. `hidden` is the mean relative squared error of the outputs of the modules named `at`, present in
    both models (`matched` finds some). The teacher runs in eval mode and takes no gradients.
    """
    names = tuple(at) if features else ()

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        with Tap(model, names) as ours, Tap(teacher, names) as theirs:
            with torch.no_grad():
                wanted = _silent(teacher, batch)
            output = model(*batch.args, **batch.kwargs)
        total = (1 - hard) * soft(output, wanted, temperature)
        if hard:
            total = total + hard * (own_loss(output) if loss is None else loss_of(loss, output, batch))
        if names:
            total = total + features * sum(relative_error(ours[n], theirs[n]) for n in names) / len(names)
        return total

    return objective


def soft(output: Any, wanted: Any, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) over the last dimension, mean over the rest; relative squared error without class scores."""
    ours, theirs = logits(output), logits(wanted)
    if ours is None or theirs is None or ours.shape[-1] == 1:
        return relative_error(represented(output), represented(wanted))
    student, dense = (log_softmax(scores.float() / temperature, -1).flatten(0, -2) for scores in (ours, theirs))
    return kl_div(student, dense, reduction="batchmean", log_target=True) * temperature**2


def relative_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared error over the teacher's mean square, so that layers of any scale weigh the same."""
    if ours.shape != theirs.shape:
        shapes = f"{tuple(ours.shape)} and the teacher's {tuple(theirs.shape)}"
        raise InputError(f"Features of shapes {shapes} cannot be compared; name other modules.")
    return mse_loss(ours.float(), theirs.float()) / theirs.float().square().mean().clamp_min(1e-12)


@torch.no_grad()
def matched(student: nn.Module, teacher: nn.Module, batch: Batch) -> tuple[str, ...]:
    """Modules of the same name whose outputs have the same shape in both: composite ones (blocks), else single layers."""
    names = [n for n, _ in student.named_modules() if n]
    known = {n for n, _ in teacher.named_modules()}
    with Tap(student, [n for n in names if n in known]) as ours, Tap(teacher, [n for n in names if n in known]) as theirs:
        _silent(student, batch)
        _silent(teacher, batch)
    same = [n for n in names if n in ours and n in theirs and ours[n].shape == theirs[n].shape]
    blocks = [n for n in same if any(True for _ in student.get_submodule(n).children())]
    return tuple(blocks or same)


class Tap(dict[str, Tensor]):
    """Outputs of the named modules, filled by forward passes while the context is open."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self._model, self._names = model, tuple(names)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Tap:
        for name in self._names:
            self._handles.append(self._model.get_submodule(name).register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(first, Tensor) and first.is_floating_point():
                self[name] = first

        return keep


@torch.no_grad()
def _silent(model: nn.Module, batch: Batch) -> Any:
    """A forward pass in eval mode that leaves the flags alone."""
    with evaluating(model):
        return model(*batch.args, **batch.kwargs)

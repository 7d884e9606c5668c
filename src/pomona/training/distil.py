"""Learning from the dense model: its class scores, its hidden features (Hinton et al., 2015; Romero et al., 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, mse_loss
from torch.utils.hooks import RemovableHandle

from pomona.probes.losses import IGNORED
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
    both models (`matched` finds some). Of text only the places that `counted` says take part. The teacher runs in eval mode
    and takes no gradients.
    """
    names = tuple(at) if features else ()

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        with Tap(model, names) as ours, Tap(teacher, names) as theirs:
            with torch.no_grad():
                wanted = _silent(teacher, batch)
            output = model(*batch.args, **batch.kwargs)
        read, written = counted(model, batch, represented(output))
        total = (1 - hard) * soft(output, wanted, temperature, written)
        if hard:
            total = total + hard * (own_loss(output) if loss is None else loss_of(loss, output, batch))
        if names:
            total = total + features * sum(relative_error(ours[n], theirs[n], read) for n in names) / len(names)
        return total

    return objective


def counted(model: nn.Module, batch: Batch, scores: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Bool (examples, length): which tokens of the input, and which of the output, are compared (None: all places).

    Padding is not. Given a label a token, scores count beside a label that is not -100: their own or, since causal models
    predict the next token, the next one. An encoder-decoder reads and writes different tokens; others write where they read.
    """
    apart = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    visible = batch.visible.bool() if isinstance(batch.visible, Tensor) else None
    written = batch.kwargs.get("decoder_attention_mask") if apart else visible
    places, labels = scores.shape[:-1], batch.target
    written = written.bool() if isinstance(written, Tensor) and written.shape == places else None
    if isinstance(labels, Tensor) and labels.ndim == 2 and labels.shape == places and not labels.is_floating_point():
        labelled = labels != IGNORED
        beside = labelled | torch.cat([labelled[:, 1:], torch.zeros_like(labelled[:, :1])], 1)
        written = beside if written is None else written & beside
    return (visible if apart else written), written


def soft(output: Any, wanted: Any, temperature: float, counted: Tensor | None = None) -> Tensor:
    """T^2 KL(teacher || student) over the last dimension, mean over the rest; relative squared error without class scores.

    Only where `counted`, bool over all dimensions but the last, if it is given; 0 where that is nowhere.
    """
    ours, theirs = logits(output), logits(wanted)
    if ours is None or theirs is None or ours.shape[-1] == 1:
        return relative_error(represented(output), represented(wanted), counted)
    student, dense = (log_softmax(_at(scores, counted).float() / temperature, -1) for scores in (ours, theirs))
    return kl_div(student, dense, reduction="sum", log_target=True) * temperature**2 / max(1, len(dense))


def relative_error(ours: Tensor, theirs: Tensor, counted: Tensor | None = None) -> Tensor:
    """Squared error over the teacher's square, so that layers of any scale weigh the same; where `counted`, if that fits."""
    if ours.shape != theirs.shape:
        shapes = f"{tuple(ours.shape)} and the teacher's {tuple(theirs.shape)}"
        raise InputError(f"Features of shapes {shapes} cannot be compared; name other modules.")
    if counted is not None and theirs.shape[:-1] == counted.shape:
        ours, theirs = ours[counted], theirs[counted]
    if not theirs.numel():
        return ours.float().sum()  # nothing to compare: zero
    return mse_loss(ours.float(), theirs.float()) / theirs.float().square().mean().clamp_min(1e-12)


def _at(scores: Tensor, counted: Tensor | None) -> Tensor:
    """(places, classes), where `counted` if it is given."""
    return scores.flatten(0, -2) if counted is None else scores[counted]


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

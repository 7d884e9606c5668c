"""Refit: survivors are fitted, weight after weight, to what the dense model puts out there (after GPTAQ, Li et al., 2025)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from pomona.probes.recording import tokens
from pomona.probes.tapping import groups, products
from pomona.quadratic.refit import descended
from pomona.quadratic.root import root
from pomona.training.adapters import targets
from pomona.training.batches import of_epoch
from pomona.training.beside import error, taught
from pomona.vocabulary import Batch, InputError, Progress, Requirement, Training
from pomona.vocabulary.beside import Beside, Tap
from pomona.vocabulary.precision import single_or_double


@dataclass(frozen=True)
class Refit:
    """min over the living W' of ||X' W'^T - X W^T||^2 + damping * ||W' - W''||^2: no gradients, every zero stays.

    X is what the dense weight W reads in the dense model, X' what its place reads in the pruned one, W'' what stands there now.
    Solvers fit a weight to what the dense one would put out on X', so that each layer adds its error to those before; here it
    also takes back what they did. In the order in which they are read, block by block, those that read one tensor together,
    each on what the refitted ones before it give. By at most `steps` conjugate gradients; `damping` is in mean diagonals of
    X'^T X', over the visible tokens of the first `calibrate` batches. GPTAQ brings the same target into the sweep over
    columns; here the mask is given. Layers whose output has another width than in the dense model stay, as does whatever
    does more than multiply with its weight and add.
    """

    damping: float = 0.01
    steps: int = 100
    calibrate: int = 64

    def __post_init__(self) -> None:
        if not self.damping > 0 or self.steps < 1 or self.calibrate < 1:
            raise InputError(
                f"Refit needs positive damping, 1 step and 1 batch; got {self.damping:g}, {self.steps} and {self.calibrate}."
            )

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; the dense model says what is wanted."""
        return frozenset({"data"})

    @property
    def rewinds(self) -> bool:
        """It goes on from the weights as they are."""
        return False

    @torch.no_grad()
    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Fit in place; returns by block how far it was from the dense one `before` and `after`.

        Raises InputError where there is no dense model, or it has no list of blocks.
        """
        if training.beside is None:
            raise InputError("Refitting goes block by block beside the dense model; use distil where nobody knows its blocks.")
        batches = [batch.unlabelled for batch in islice(of_epoch(training.data, 0, training.seed), self.calibrate)]
        before, after = [], []
        with training.progress.stage("refitting") as stage:
            for each in training.beside(model, batches):
                data = list(taught(each))
                before.append(error(each.pruned, data))
                for group in _groups(each, lambda _: training.hold(model), data[0]):
                    self._fitted(each, group, training.progress)
                after.append(error(each.pruned, data))
                stage.advance(1, block=each.block)
        return {"before": before, "after": after}

    def _fitted(self, each: Beside, group: Sequence[_Layer], progress: Progress) -> None:
        """Those that read one tensor. Raises InputError where no damping helps."""
        names = [layer.name for layer in group]
        gram, cross = torch.zeros(()), dict.fromkeys(names, torch.zeros(()))
        for own, whole in each.calls:
            ours, theirs = (products(block, call, names) for block, call in ((each.pruned, own), (each.dense, whole)))
            for name in names:
                # Half types must not sum: what they lose by rounding is more than the damping.
                read, given = (single_or_double(tokens(x, own.visible).flatten(0, -2)) for x in ours[name])
                wanted = single_or_double(tokens(theirs[name][1], whole.visible).flatten(0, -2))
                cross[name] = cross[name] + (read.mT @ (wanted - given)).double()  # (columns, rows)
            gram = gram + (read.mT @ read).double()
        made = root(gram[None], self.damping)
        if made is None:
            raise InputError(
                f"The inputs of {names[0]} cannot be made positive definite by any damping; check the model and data."
            )
        if made.strength != self.damping:
            progress.note(f"The inputs of {names[0]} depend on each other: damping {made.strength:g} was needed to refit it.")
        gram.diagonal().add_(made.ridge[0])
        norms = gram.diagonal().sqrt()
        scaled = (gram / norms[:, None] / norms).float()
        for layer in group:
            now, alive = layer.matrix(layer.weight).double(), layer.matrix(layer.alive)
            free = now + made.solved(cross[layer.name][None])[0].mT
            target, start = ((value * norms).float()[None] for value in (free, now))
            found = descended(scaled[None], target, alive[None], start, self.steps)[0].double() / norms
            layer.weight.copy_(layer.matrix(found))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module that multiplies with one weight; `across` where it is stored as (columns, rows)."""

    name: str
    weight: nn.Parameter
    alive: Tensor
    across: bool

    def matrix(self, value: Tensor) -> Tensor:
        """(rows, columns), or back."""
        return value.mT if self.across else value


def _groups(each: Beside, hold: Callable[[nn.Module], None], first: Batch) -> list[list[_Layer]]:
    """The layers that are refitted, in the order in which they are called; together those that read the very same tensor."""
    wide = {name: weight.shape for name, weight in each.dense.named_parameters()}
    names = {id(module): name for name, module in each.pruned.named_modules()}
    single = [t for t in targets(each.pruned, hold) if len(t.places) == 1]
    pruned = {f"{names[id(t.places[0][0])]}.{t.places[0][1]}": t for t in single}

    def layer(tap: Tap) -> _Layer | None:
        target, rows = pruned[tap.weight], int(tap.across)
        alike = wide[tap.weight][rows] == target.weight.shape[rows]
        return _Layer(tap.layer, target.weight, target.alive, tap.across) if alike else None

    made = [[layer(tap) for tap in group.values() if tap] for group in groups(each.pruned, first, list(pruned), beside=False)]
    return [found for group in made if (found := [one for one in group if one])]

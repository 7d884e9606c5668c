"""TuneMasks: each head and neuron weighs what the dense model's sub-layer asks of it, by least squares (Kwon et al., 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from pomona.graph import Graph, trace
from pomona.probes.recording import tokens
from pomona.probes.sublayer import sublayer
from pomona.training.batches import of_epoch, onto
from pomona.vocabulary import Batch, InputError, Member, Requirement, Training

_FAMILIES = ("head", "kv-group", "neuron")


@dataclass(frozen=True)
class TuneMasks:
    """One factor a unit, written into the weight that reads it; sub-layer after sub-layer, from the first to the last.

    What a sub-layer gives, residual included, comes as near as it can to what it gives in the dense model, on what the pruned and
    already tuned layers before it hand on; padding is left out. `ridge`, in mean squares of what a unit adds, pulls factors to 1,
    where all of them are if nothing was pruned. As in the paper tuning ends at the first sub-layer with a factor beyond
    `largest`, since such a fit means nothing. Simplified: the paper takes a half-pruned model for the teacher, fits a
    constant beside the heads, looks at the first token alone in a classifier's last layer and solves by LSMR. For heads
    (kv-groups where they share keys) and neurons that one matrix reads. No gradients; for each sub-layer two forward passes, up
    to there, over the first `calibrate` batches of the data (the paper takes 64 of 32).
    """

    ridge: float = 1e-4
    largest: float = 10.0
    calibrate: int = 64

    def __post_init__(self) -> None:
        if not self.ridge > 0 or not self.largest > 1 or self.calibrate < 1:
            raise InputError(
                f"Tuning needs a positive ridge, a largest factor above 1 and at least one batch; "
                f"got {self.ridge:g}, {self.largest:g} and {self.calibrate}."
            )

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; the dense model says what they should come to."""
        return frozenset({"data"})

    @property
    def rewinds(self) -> bool:
        """Weights stay where they are, but for a factor."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Tune in place; says how many sub-layers were `tuned`, and where a fit that meant nothing `stopped` it.

        Raises InputError without a teacher, and where the model has no such units.
        """
        if training.teacher is None:
            raise InputError("Masks are tuned to what the dense model gives; there is no teacher here.")
        device = next(model.parameters()).device
        first = onto(next(of_epoch(training.data, 0, training.seed)), device).unlabelled
        found = _readers(trace(model, first.args, dict(first.kwargs)))
        if not found:
            raise InputError("The model has no heads or neurons that one matrix reads, so there are no masks to tune.")
        with training.progress.stage("tuning masks", len(found)) as stage:
            for number, reader in enumerate(found):
                batches = islice(of_epoch(training.data, 0, training.seed), self.calibrate)
                pieces = (onto(batch, device).unlabelled for batch in batches)
                factors = _factors(model, training.teacher, reader, pieces, self.ridge)
                if not bool((factors.abs() <= self.largest).all()):
                    return {"tuned": number, "stopped": reader.tensor}
                _scale(model.get_parameter(reader.tensor), reader, factors)
                stage.advance()
        training.hold(model)
        return {"tuned": len(found)}


def _readers(graph: Graph) -> list[Member]:
    """The matrices that are the only ones to read heads or neurons, in the order of the model; each of them once."""
    found: dict[str, Member] = {}
    axes = [axis for axis in graph.axes.values() if axis.family in _FAMILIES]
    for axis in sorted(axes, key=lambda axis: axis.family == "head"):  # heads within kv-groups come too late
        members = [m for m in axis.members if m.role == "in" and not m.buffer]
        # Of a stack of matrices each reads rows of its own, which one pass through the module does not tell apart.
        if len(members) == 1 and (weight := graph.weights[members[0].tensor]).kind == "linear" and weight.stack is None:
            found.setdefault(weight.tensor, replace(members[0], weight=weight))
    order = list(graph.weights)
    return sorted(found.values(), key=lambda member: order.index(member.tensor))


def _factors(model: nn.Module, teacher: nn.Module, reader: Member, batches: Iterator[Batch], ridge: float) -> Tensor:
    """(units,) float64: least squares on what is missing. (G + ridge) (f - 1) = A^T r, A what units add, G = A^T A."""
    weight = model.get_parameter(reader.tensor).detach().double()
    w = weight.movedim(reader.dim or 0, 1)  # (outputs, columns)
    gram, pull = w.new_zeros(w.shape[1], w.shape[1]), w.new_zeros(w.shape[1])
    for batch in batches:
        (x, given), (_, wanted) = (sublayer(net, batch, reader.tensor) for net in (model, teacher))
        x, missing = (tokens(t, batch.visible).flatten(0, -2).double() for t in (x, wanted - given))
        gram += x.T @ x
        pull += ((missing.T @ x) * w).sum(0)
    gram, pull = _by_unit(_by_unit(gram * (w.T @ w), reader).T, reader), _by_unit(pull, reader)
    damping = ridge * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny  # tiny: where nobody adds anything
    root = torch.linalg.cholesky(gram + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    factors: Tensor = 1 + torch.cholesky_solve(pull[:, None], root)[:, 0]
    return factors


def _by_unit(values: Tensor, reader: Member) -> Tensor:
    """(columns, ...) -> (units, ...): the columns of a unit added up."""
    return values if reader.index is None else values[reader.index.to(values.device)].sum(1)


@torch.no_grad()
def _scale(weight: nn.Parameter, reader: Member, factors: Tensor) -> None:
    along = factors
    if reader.index is not None:
        along = factors.new_ones(weight.shape[reader.dim or 0])
        along[reader.index.to(along.device)] = factors[:, None].expand(reader.index.shape)
    shape = [-1 if dim == (reader.dim or 0) else 1 for dim in range(weight.ndim)]
    weight.copy_((weight.double() * along.view(shape)).to(weight.dtype))

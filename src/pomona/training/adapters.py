"""Low-rank adapters that keep the zeros, as parametrizations: any module that reads a matrix takes part (Zimmer et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pomona.training.living import living

Shape: TypeAlias = tuple[int, ...]  # (*stack, rows, width): a weight as a matrix, or as a stack of them


class Masked(nn.Module):
    """W + scale * M ⊙ (B A), M being who lives. B starts at zero, so that nothing changes at first."""

    alive: Tensor

    def __init__(self, shape: Shape, alive: Tensor, rank: int, scale: float, random: torch.Generator) -> None:
        super().__init__()
        *stack, rows, width = shape
        self.scale = scale
        self.A = nn.Parameter(_spread((*stack, rank, width), random).to(alive.device))
        self.B = nn.Parameter(torch.zeros(*stack, rows, rank, device=alive.device))
        self.register_buffer("alive", alive, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the model sees it, in the weight's own shape and dtype."""
        change = self.scale * _product(self.B, self.A).reshape(weight.shape)
        return torch.where(self.alive, weight + change, 0).to(weight.dtype)


class Scaled(nn.Module):
    """W ⊙ (B A). The first of the r products starts as all ones and the others at zero, so that B A is exactly one.

    The paper starts all r alike at 1/sqrt(r). Then each gets the same gradient as every other, and B A has rank one for ever;
    here it has what it was given.
    """

    alive: Tensor

    def __init__(self, shape: Shape, alive: Tensor, rank: int, random: torch.Generator) -> None:
        super().__init__()
        *stack, rows, width = shape
        A, B = _spread((*stack, rank, width), random), torch.zeros(*stack, rows, rank)
        A[..., 0, :], B[..., 0] = 1, 1
        self.A, self.B = nn.Parameter(A.to(alive.device)), nn.Parameter(B.to(alive.device))
        self.register_buffer("alive", alive, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the model sees it, in the weight's own shape and dtype."""
        return torch.where(self.alive, weight * _product(self.B, self.A).reshape(weight.shape), 0).to(weight.dtype)


Maker: TypeAlias = Callable[[Shape, Tensor], nn.Module]  # (shape, alive) -> adapter


@dataclass(frozen=True, eq=False)
class Target:
    """A weight that gets an adapter, with every module that reads it (tied ones share it) and who lives in it."""

    weight: nn.Parameter
    places: tuple[tuple[nn.Module, str], ...]
    alive: Tensor

    @property
    def shape(self) -> Shape:
        """(rows, width) as it is multiplied; what is no convolution and has more dimensions is a stack of matrices (experts)."""
        if hasattr(self.places[0][0], "kernel_size"):
            return (len(self.weight), self.weight[0].numel())
        return tuple(self.weight.shape)


def targets(model: nn.Module, hold: Callable[[nn.Module], None], skip: Iterable[nn.Parameter] = ()) -> list[Target]:
    """The matrices that were pruned; where none was, every one but embeddings (and heads tied to them).

    Recurrent layers are left out: they read their weights from a list of their own, past any parametrization.
    """
    left_out = {id(parameter) for parameter in skip}
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            places.setdefault(id(parameter), []).append((module, name))
            if hasattr(module, "_flat_weights"):
                left_out.add(id(parameter))
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p.is_floating_point() and id(p) not in left_out]
    found = [Target(p, tuple(places[id(p)]), alive) for p, alive in zip(matrices, living(model, hold, matrices), strict=True)]
    pruned = [target for target in found if not target.alive.all()]
    return pruned or [t for t in found if not any(isinstance(module, nn.Embedding) for module, _ in t.places)]


@contextmanager
def adapted(model: nn.Module, chosen: Iterable[Target], make: Maker) -> Iterator[None]:
    """Within it the chosen weights are read through adapters; afterwards they hold what was read, and the adapters are gone."""
    put = [(target, make(target.shape, target.alive)) for target in chosen]
    order = {module: tuple(module._parameters) for target, _ in put for module, _ in target.places}
    for target, adapter in put:
        for module, name in target.places:
            parametrize.register_parametrization(module, name, adapter)
    try:
        yield
    finally:
        with torch.no_grad():
            for target, adapter in put:
                merged = adapter(target.weight)
                for module, name in target.places:
                    parametrize.remove_parametrizations(module, name, leave_parametrized=False)
                target.weight.copy_(merged)
        # What was parametrized comes back as the last of its module; optimisers know parameters by their order.
        for module, names in order.items():
            for name in names:
                module._parameters[name] = module._parameters.pop(name)


def _product(B: Tensor, A: Tensor) -> Tensor:
    """B A in float32, under autocast too: what is trained is what will be merged, and small steps are not rounded away."""
    with torch.autocast(A.device.type, enabled=False):
        return B @ A


def _spread(shape: Shape, random: torch.Generator) -> Tensor:
    """Uniform in ±1/sqrt(width), as torch starts a linear layer (and LoRA its A)."""
    return (2 * torch.rand(shape, generator=random) - 1) / sqrt(shape[-1])

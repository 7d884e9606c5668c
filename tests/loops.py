"""Training loops for the tests of the training engine: a graph written down by hand and a few dozen steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from handmade import axis_site, data
from pomona.engines.prices import price
from pomona.engines.training import Sparsifier, sparsify
from pomona.vocabulary import Axis, Goal, Recipe, Weight


@dataclass(frozen=True)
class HandGraph:
    """What `trace` would say, for models of linear, convolution and recurrent modules."""

    weights: Mapping[str, Weight]
    axes: Mapping[str, Axis] = field(default_factory=dict)
    branches: tuple[Any, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> HandGraph:
        kinds = {nn.Linear: "linear", nn.Conv2d: "conv", nn.LSTM: "recurrent"}
        weights = {}
        for name, parameter in model.named_parameters():
            owner = model.get_submodule(name.rpartition(".")[0])
            matrix = parameter.dim() > 1
            kind = kinds.get(type(owner), "norm") if matrix else "norm" if isinstance(owner, nn.BatchNorm2d) else "bias"
            kind = "bias" if name.endswith("bias") else kind
            weights[name] = Weight(name, kind, tuple(parameter.shape), 0 if matrix else None, 1 if matrix else None)
        axes = {"channels": axis_site().axis} if hasattr(model, "conv") else {}
        return cls(weights, axes)


def begin(model: nn.Module, optimizer: Any, recipe: Recipe, goal: str | None, steps: int, **more: Any) -> Sparsifier:
    wish = Goal.parse(goal) if goal else None
    graph = HandGraph.of(model)
    cost = price(wish or Goal("sparsity", 1.0), graph, recipe.structure.sites(graph), recipe.structure)
    return sparsify(model, optimizer, recipe, wish, steps, graph=graph, price=cost, **more)


def batch(number: int) -> tuple[Tensor, Tensor]:
    return data(16, seed=100 + number)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    s: Sparsifier,
    first: int,
    last: int,
    each: Callable[[int], None] | None = None,
) -> None:
    """Steps first .. last - 1 of a run; step k always sees batch k."""
    model.train()
    for k in range(first, last):
        x, y = batch(k)
        optimizer.zero_grad()
        (cross_entropy(model(x), y) + s.loss()).backward()
        optimizer.step()
        s.step()
        if each:
            each(k + 1)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-1)

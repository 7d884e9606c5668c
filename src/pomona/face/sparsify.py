"""The training engine behind one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from pomona.engines import training
from pomona.engines.prices import price
from pomona.engines.training import Sparsifier
from pomona.face.wish import Batches, check_model, check_unordered, goal_for, name_of, recipe_for, settle, sites_of
from pomona.face.workload import Workload, bound
from pomona.graph import Graph, Release, survey
from pomona.graph.binding import released, same_model
from pomona.vocabulary import Goal, InputError, Limits, Loss, Progress, Recipe, Structure


def sparsify(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    method: str | Recipe = "gradual-magnitude",
    goal: str | Goal | None = None,
    steps: int,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    structure: str | Structure | None = None,
    data: Any = None,
    loss: Loss | None = None,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    exact: bool = False,
    release: Release | None = None,
    latency: Mapping[str, Any] | None = None,
    seed: int = 0,
    state: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Sparsifier:
    """A sparsifier for a plain training loop: enter it with `with`, and call its `step()` after each `optimizer.step()`.

    `steps` is how many optimiser steps the training will take. `args` (a tensor, tuple or dict) and `kwargs` are
    example inputs to trace the model with, or `args` is its graph; the first batch of `data` serves where they are left
    out. Add `s.loss()` to the loss for recipes with a regulariser. `release` is as in `prune`. A goal in latency is about
    the `batch` and `threads` in `latency` (without them the example inputs and torch's own); the cut that reaches it is timed
    on a copy of the model, and made again until it is right. Raises InputError before anything is touched.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> x, y = torch.randn(32, 8), torch.randint(0, 2, (32,))
    >>> with pomona.sparsify(net, optimizer, method="rigl", goal="sparsity=0.75", steps=10, args=x) as s:
    ...     for _ in range(10):
    ...         optimizer.zero_grad()
    ...         torch.nn.functional.cross_entropy(net(x), y).backward()
    ...         optimizer.step()
    ...         s.step()
    >>> s.density
    0.25
    """
    check_model(model)
    given = goal_for(goal)
    recipe = recipe_for(method, structure, None, goal=given, only=only, keep=keep, exact=exact)
    check_unordered(recipe, "the optimiser holds the model's tensors as they are")
    batches = Batches.of(data) if data is not None else None
    if args is None and not kwargs:
        if batches is None:
            raise InputError("Give example inputs to trace the model with: args=, kwargs= or data=.")
        first = next(iter(batches))
        args, kwargs = first.args, first.kwargs
    graph = _graph(model, args, kwargs, release)
    sites = sites_of(recipe.structure, graph)
    wish = settle(given, recipe.structure, sites)
    load = _load(model, graph, latency, progress) if wish and wish.cost == "latency" else None
    cost = price(wish or Goal("sparsity", 1.0), graph, sites, recipe.structure, (lambda: load.forecast(graph)) if load else None)
    wish = bound(wish, cost.dense) if wish else None
    return training.sparsify(
        model,
        optimizer,
        recipe,
        wish,
        steps,
        graph=graph,
        price=cost,
        limits=limits,
        seed=seed,
        data=batches,
        loss=loss,
        state=state,
        method=name_of(method),
        measure=(lambda plan: load.share(plan, graph)) if load else None,
        release=graph.released,
    )


def _graph(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None, release: Release | None) -> Graph:
    if isinstance(args, Graph):
        return released(same_model(args, model), release)
    return survey(model, args if args is not None else (), kwargs, release=release)


def _load(model: nn.Module, graph: Graph, latency: Mapping[str, Any] | None, progress: Progress | None) -> Workload:
    """On a copy: while training runs, the model itself has gates on it and zeros in it, neither of which the small one has."""
    args, kwargs = graph.program.example_inputs
    return Workload.of(deepcopy(model), args, kwargs, latency or {}, progress)

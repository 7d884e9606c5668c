"""What the user asked for, checked before any work starts: recipe, goal, data, loss."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona import registry
from pomona.evaluate.outputs import answer, measuring, tokens_of
from pomona.graph import Graph
from pomona.graph.export import where
from pomona.graph.forms import check_form
from pomona.orders import order as parse_order
from pomona.recovery import parse as parse_recovery
from pomona.structures import narrowed
from pomona.structures import structure as parse_structure
from pomona.structures.axes import Axes
from pomona.structures.weights import Weights
from pomona.vocabulary import (
    BLOCKS,
    FAMILIES,
    Batch,
    Goal,
    InputError,
    Loss,
    Order,
    Recipe,
    Recovery,
    Requirement,
    Site,
    Structure,
    finite,
    first_line,
)

_ATTENTION = {"head", "kv-group", "head-dim"}  # families of axes that keys and values have


@dataclass(frozen=True, eq=False)
class Batches:
    """The user's data as batches that can be walked again and again; `raw` iterables that cannot are kept in a list."""

    raw: Iterable[Any]
    limit: int | None = None
    tokens: int | None = None  # that the model knows

    @classmethod
    def of(cls, data: Any, model: nn.Module | None = None) -> Batches:
        """Raises InputError when there is nothing in it or a batch has no known form; later, for tokens that `model` lacks."""
        if isinstance(data, Batches):
            return data
        if isinstance(data, torch.Tensor) or not isinstance(data, Iterable):
            raise InputError(f"data must be an iterable of batches; got {type(data).__name__}. Wrap a single batch in a list.")
        raw = list(data) if isinstance(data, Iterator) else data
        made = cls(raw, tokens=tokens_of(model))
        if next(iter(raw), None) is None:
            raise InputError("The data is empty; pass at least one batch.")
        return made

    def __iter__(self) -> Iterator[Batch]:
        return (Batch.of(raw).check(self.tokens, number) for number, raw in enumerate(islice(self.raw, self.limit), 1))

    def first(self, count: int | None) -> Batches:
        """Only so many batches of it (None: all)."""
        return replace(self, limit=count)

    def __len__(self) -> int:
        """Number of batches; data without a length are read once to count."""
        there = len(self.raw) if isinstance(self.raw, Sized) else sum(1 for _ in islice(self.raw, self.limit))
        return there if self.limit is None else min(there, self.limit)

    def set_epoch(self, epoch: int) -> None:
        """Hand the epoch to data that shuffles by it."""
        if hasattr(self.raw, "set_epoch"):
            self.raw.set_epoch(epoch)


def recipe_for(
    method: str | Recipe,
    structure: str | Structure | None,
    recover: str | Recovery | None,
    *,
    goal: Goal | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    exact: bool = False,
    order: str | Order | None = None,
) -> Recipe:
    """The recipe with the user's own structure, recovery, order and patterns put in; raises InputError where they do not fit.

    A goal of families (`heads=0.5`) says what is pruned, and one in latency that axes are, unless a structure is given.
    """
    recipe = registry.recipe(method)
    if structure is None and goal is not None:
        structure = _implied(goal, recipe)
    if structure is not None:
        recipe = recipe.but(structure=parse_structure(structure))
    if recover is not None:
        recipe = recipe.but(recovery=parse_recovery(recover) if isinstance(recover, str) else recover)
    if order is not None:
        recipe = recipe.but(order=parse_order(order) if isinstance(order, str) else order)
    if only or keep or exact:
        recipe = recipe.but(structure=narrowed(recipe.structure, only, keep, exact))
    return recipe


def _implied(goal: Goal, recipe: Recipe) -> str | Structure | None:
    """The families of a goal, and every axis where a price is to be met beside them; None for the recipe's own structure.

    A goal in latency means axes where the recipe would zero single weights, which saves no time. One in keys and values means
    the heads, by groups where they share them, where the recipe would cut weights or other axes, too.
    """
    reach = set(getattr(recipe.structure, "families", ()))
    if goal.cost == "kv" and not goal.shares and (recipe.structure == Weights() or (reach & _ATTENTION and reach - _ATTENTION)):
        return Axes(("head", "kv-group"), shared=True)
    if goal.cost == "latency" and not goal.shares and recipe.structure == Weights():
        return "axes"
    blocks = ["layers"] if any(name in BLOCKS for name, _ in goal.shares) else []
    families = [name for name, _ in goal.shares if name in FAMILIES]
    if not families and not blocks:
        return None
    return "+".join([*(["axes"] if goal.priced else families), *blocks])


def method_for(method: str | Recipe | None, goal: Goal | None) -> str | Recipe:
    """What was asked for. Without it, magnitude; for a goal in latency, which zeros do not meet, what is made for such goals."""
    if method is not None:
        return method
    return "latency-aware" if goal is not None and goal.cost == "latency" else "magnitude"


def name_of(method: str | Recipe) -> str:
    """What the user calls the recipe."""
    return method if isinstance(method, str) and "=" not in method else "custom"


def goal_for(goal: str | Goal | None) -> Goal | None:
    """The goal as data; None where none was given."""
    return Goal.parse(goal) if isinstance(goal, str) else goal


def sites_of(structure: Structure, graph: Graph) -> tuple[Site, ...]:
    """The sites of a structure. Raises InputError where it does not fit the model, or needs the graph that there is not."""
    try:
        return tuple(structure.sites(graph))
    except InputError as error:
        patterns: tuple[str, ...] = (*getattr(structure, "only", ()), *getattr(structure, "keep", ()))
        if graph.missing is None or patterns:
            raise
        can = "single weights can be pruned all the same: structure weights or 2:4"
        raise InputError(f"The structure {structure} needs a graph; {graph.missing}; {can}.") from error


def settle(goal: Goal | None, structure: Structure, sites: Sequence[Site]) -> Goal | None:
    """The goal of a run; a structure that fixes its own sparsity (2:4) is its own goal, and takes no other."""
    fixed = [structure.feasible(site) for site in sites]
    if not all(count is not None for count in fixed):
        return goal
    own = Goal("sparsity", sum(filter(None, fixed)) / sum(site.units for site in sites))
    if goal is not None and goal != own:
        raise InputError(f"{structure} already means {own}; leave the goal out or choose another structure.")
    return own


def check_folder(folder: str | Path | None) -> Path | None:
    """A folder for checkpoints, there or to be made; raises InputError where it cannot be."""
    if folder is None:
        return None
    folder = Path(folder)
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"Checkpoints cannot go to {folder}: {there} is not a folder that you may write to.")
    return folder


def check_model(model: Any) -> nn.Module:
    """A module in a form that can be cut, with finite parameters, or InputError."""
    if not isinstance(model, nn.Module):
        raise InputError(f"The model must be a torch.nn.Module; got {type(model).__name__}.")
    if not any(True for _ in model.parameters()):
        raise InputError("The model has no parameters; there is nothing to prune.")
    check_form(model)
    for name, parameter in model.named_parameters():
        if not finite(parameter):
            raise InputError(f"The weight {name} holds NaN or infinity; repair the model first.")
    return model


@torch.no_grad()
def check_takes(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Whether the model takes the example inputs; raises InputError that says where and why not.

    Run on copies: a model may write to what it holds (tables with a largest norm do) and what it is given.
    """
    model, args, kwargs = deepcopy((model, args, dict(kwargs)))
    try:
        with measuring(model):
            model(*args, **kwargs)
    # The model's own forward may raise anything; it all means that these inputs are not for it.
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
        raise InputError(
            f"{type(model).__name__} does not take the example inputs{where(model, error)}: {said}; "
            "give inputs of the shapes, dtypes and device that its forward accepts."
        ) from error


def check_fits(model: nn.Module, data: Iterable[Any] | None) -> None:
    """Whether the model takes the first batch of the data; raises InputError that says what it said."""
    if data is None:
        return
    first = next(iter(data), None)
    if first is None:
        raise InputError("The data is empty; pass at least one batch.")
    with measuring(model):
        answer(model, Batch.of(first))


def check_needs(needs: Set[Requirement], who: str, data: Batches | None, loss: Loss | None) -> None:
    """Whether the user brought what a recipe or a recovery asks for; `who` names it: "The method 'taylor'"."""
    if "data" in needs and data is None:
        also = " and a loss" if needs & {"loss", "gradients"} else ""
        raise InputError(
            f"{who} needs data{also}; give --data{' and --loss' if also else ''} (data={' and loss=' if also else ''} in Python)."
        )
    if needs & {"loss", "gradients"} and loss is None and data is not None and not _model_computes_loss(data):
        why = "gradients; give a loss" if "gradients" in needs else "a loss"
        raise InputError(f"{who} needs {why}: --loss cross-entropy (loss=, a function of (output, target), in Python).")


def _model_computes_loss(data: Batches) -> bool:
    first = next(iter(data))
    return "labels" in first.kwargs


def check_unordered(recipe: Recipe, why: str) -> None:
    """Raises InputError for a recipe that puts channels into another order, with why that cannot be."""
    if recipe.order is not None:
        raise InputError(f"Channels cannot be put into another order here: {why}; choose a method without an order.")


def check_schedule(recipe: Recipe, method: str) -> None:
    """Recipes with a schedule of optimiser steps belong into a training loop."""
    if recipe.schedule.clock == "step":
        raise InputError(
            f"'{method}' prunes while the model trains; use pomona.sparsify(model, optimizer, method='{method}') in its loop."
        )

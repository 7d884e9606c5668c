"""The training engine: the parts of a recipe driven by the steps of somebody else's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from pomona.collect import collect
from pomona.engines.decide import Ground, decide, members, write
from pomona.engines.freeze import Freeze
from pomona.engines.gating import Gating
from pomona.engines.live import live, shown
from pomona.engines.masks import everyone, impose, impose_on_state, stored, tensor_masks
from pomona.engines.thresholds import admit, dismiss
from pomona.vocabulary import (
    Batch,
    Clock,
    Drop,
    Gathered,
    Goal,
    Graph,
    InputError,
    Limits,
    Loss,
    Plan,
    Price,
    Recipe,
    Recover,
    Regrow,
    State,
    Statistic,
    View,
)


def sparsify(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    goal: Goal | None,
    steps: int,
    *,
    graph: Graph,
    price: Price,
    limits: Limits | None = None,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    state: Mapping[str, Any] | None = None,
    method: str = "custom",
    measure: Callable[[Plan], float] | None = None,
    release: str | None = None,
) -> Sparsifier:
    """Bind a recipe whose schedule counts steps to a training loop of `steps` optimiser steps; see `Sparsifier`.

    `data` and `loss` serve criteria that need more than the gradients of the live step. With `state`, a saved
    `state_dict()`, entering goes on from there instead of making the first decisions. `measure` says what share of the dense
    price a plan really leaves, where the price only foretells: the cut that reaches the goal is aimed by it. `release` is what
    the graph was traced with. Raises InputError, before anything is touched, for a recipe that does not train, a missing goal,
    or an optimiser of another model.
    """
    if recipe.schedule.clock != "step":
        raise InputError("This method prunes in rounds, not during training; use prune() for it.")
    if steps < 1:
        raise InputError(f"A training run needs at least one step; got {steps}.")
    if goal is None and not getattr(recipe.allocation, "emerges", False):
        raise InputError("This method needs a goal; pass goal='sparsity=0.9' or another one.")
    sites = tuple(recipe.structure.sites(graph))
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    reached = sorted({m.tensor for site in sites for m in site.members if not m.buffer})
    if any(site.kind == "branch" for site in sites):
        raise InputError("Whole layers are not pruned during training; use a structure of weights, blocks or axes.")
    if all(recipe.structure.feasible(site) is not None for site in sites) and _drops(recipe, goal, steps):
        raise InputError(
            f"{recipe.structure} fixes how many stay in every group, so that nothing can be dropped and grown again; "
            "use gradual-magnitude or another structure."
        )
    if not any(id(model.get_parameter(name)) in trained for name in reached):
        raise InputError(f"The optimizer does not train {reached[0]}; make it from the pruned model's parameters().")
    ground = Ground(recipe, sites, price, goal or Goal("sparsity", 1.0), limits or Limits(), seed, method, measure)
    return Sparsifier(
        model, optimizer, ground, steps, graph, wished=goal is not None, data=data, loss=loss, state=state, release=release
    )


def _drops(recipe: Recipe, goal: Goal | None, steps: int) -> bool:
    clocks = (Clock(step=step, steps=steps) for step in range(steps + 1))
    wish = goal or Goal("sparsity", 1.0)
    return any(isinstance(action, Drop) for clock in clocks for action in recipe.schedule.actions(clock, wish))


class Sparsifier:
    """A recipe at work in a training loop, as a context:

        with sparsify(model, optimizer, ...) as s:
            for x, y in loader:
                loss = criterion(model(x), y) + s.loss()
                optimizer.zero_grad(); loss.backward(); optimizer.step(); s.step()

    Entering does the actions of step 0. `step()`, called after the k-th `optimizer.step()` and before the gradients are
    zeroed, moves the clock to k and does the actions of step k; after the last of `steps` every gate is hard. Calls
    beyond that hold the masks. Leaving folds gates into exact zeros and gives back a plain model; it does so after an
    exception too, leaving the weights as the forward pass saw them.

    With mixed precision call `step()` after `scaler.step(optimizer)`, which leaves the gradients unscaled. Recipes with
    learned thresholds add these to the optimiser, so make learning-rate schedulers inside the context. To resume, load
    model and optimiser inside the context and then `load_state_dict`, in any order; or load them before it and pass `state`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        ground: Ground,
        steps: int,
        graph: Graph,
        *,
        wished: bool,
        data: Iterable[Batch] | None,
        loss: Loss | None,
        state: Mapping[str, Any] | None,
        release: str | None = None,
    ) -> None:
        self.model, self.optimizer, self.ground, self.graph = model, optimizer, ground, graph
        self.clock = Clock(steps=steps)
        self._wished, self._data, self._loss, self._resume, self._release = wished, data, loss, state, release
        self._names = sorted({m.tensor for site in ground.sites for m in site.members if not m.buffer})
        self._parameters = {name: stored(model, name) for name in self._names}
        self._alive = everyone(ground.sites, next(iter(self._parameters.values())).device)
        self._masks = tensor_masks(ground.recipe.structure, ground.sites, self._alive)
        self._dropped: dict[str, int] = {}
        self._pulls: dict[str, State] = {}
        self._gating: Gating | None = None
        self._freeze: Freeze | None = None
        self._open = self._used = False

    # -- the loop ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Sparsifier:
        if self._used:
            raise InputError("A sparsifier serves one run; make a new one, with state= to go on from this one.")
        self._open = self._used = True
        try:
            if gate := self.ground.recipe.gate:
                self._gating = Gating(self.model, gate, self.ground.sites, self._masks)
                self._freeze = Freeze(self.optimizer, self._parameters, self._frozen)
                admit(self.optimizer, list(self._gating.learned.values()))
            if self._resume is None:
                self._act()
            else:
                self.load_state_dict(self._resume)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._gating:
            self._gating.close()
        self._leave()
        if kind is None:
            impose(self.model, self._masks)
            impose_on_state(self.model, self.optimizer, self._masks)

    @torch.no_grad()
    def step(self) -> None:
        """One optimiser step is done: hold the dead, do what the schedule asks for, advance the regulariser.

        Raises InputError outside the context, and where a criterion needs gradients that are gone.
        """
        self._inside()
        self.clock = replace(self.clock, step=self.clock.step + 1)
        self._hold()
        if self.clock.step <= self.clock.steps:
            self._act()
            self._advance()
        if self.clock.step == self.clock.steps and self._gating:
            self._gating.close()

    def loss(self) -> Tensor:
        """The regulariser's penalty for the coming step, to be added to the loss; 0 without one and after the last step."""
        self._inside()
        device = next(iter(self._parameters.values())).device
        regulariser, total = self.ground.recipe.regulariser, torch.zeros((), device=device)
        if regulariser is None or self.clock.step >= self.clock.steps:
            return total
        clock, tensors = self._signalled(), {**self._parameters, **self._learned}
        for view in self._views(tensors):
            total = total + regulariser.penalty(view, self._pulls.get(view.site.name), clock)
        return total

    # -- what it says --------------------------------------------------------------------------------------------------

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool of the parameter's shape, True = alive, as decided (an open gate enforces it at the end)."""
        return {name: mask.expand(self._parameters[name].shape).clone() for name, mask in self._masks.items()}

    @property
    def density(self) -> float:
        """Share of the elements of the recipe's linear, convolution and recurrent weights that is alive, as decided."""
        weights = self.graph.weights
        counted = [n for n in self._names if n in weights and weights[n].prunable] or self._names
        living = sum(int(self._masks[n].expand(self._parameters[n].shape).sum()) for n in counted if n in self._masks)
        return living / sum(self._parameters[n].numel() for n in counted)

    def plan(self) -> Plan:
        """The present decisions."""
        made = self.ground.plan({n: m.cpu() for n, m in self._alive.items()}, {}, wished=self._wished)
        return replace(made, provenance={**made.provenance, "release": self._release})

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides model and optimiser: numbers, strings and tensors, no references."""
        return {
            "recipe": str(self.ground.recipe),
            "step": self.clock.step,
            "steps": self.clock.steps,
            "alive": {name: mask.clone() for name, mask in self._alive.items()},
            "dropped": dict(self._dropped),
            "learned": {name: value.detach().clone() for name, value in self._learned.items()},
            "regulariser": {site: {k: v.clone() for k, v in state.items()} for site, state in self._pulls.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; raises InputError if it is of another recipe, length or model."""
        self._inside()
        if state["recipe"] != str(self.ground.recipe) or state["steps"] != self.clock.steps:
            raise InputError(f"The saved state is of another run ({state['steps']} steps of {state['recipe']}).")
        if {n: m.shape for n, m in state["alive"].items()} != {n: m.shape for n, m in self._alive.items()}:
            raise InputError("The saved state is of another model; its sites differ.")
        self.clock = replace(self.clock, step=state["step"])
        self._alive = {name: mask.to(self._alive[name].device).clone() for name, mask in state["alive"].items()}
        self._dropped = dict(state["dropped"])
        self._pulls = {site: {k: v.clone() for k, v in pull.items()} for site, pull in state["regulariser"].items()}
        for name, value in self._learned.items():
            value.copy_(state["learned"][name])
        self._settle()
        if self._gating and self.clock.step >= self.clock.steps:
            self._gating.close()

    # -- what it does --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _act(self) -> None:
        for number, action in enumerate(self.ground.recipe.schedule.actions(self.clock, self.ground.goal)):
            if isinstance(action, Recover):
                raise InputError("A schedule that counts steps trains already; leave the recovery to the end.")
            tensors = {name: p.detach() for name, p in {**self._parameters, **self._learned}.items()}
            salt = 8 * self.clock.step + number
            decisions = decide(self.ground, action, tensors, self._alive, self._gather, self._dropped, salt)
            write(self.model, decisions)
            before, masks = self._alive, self._masks
            self._alive = {name: decision.keep for name, decision in decisions.items()}
            if isinstance(action, Drop):
                self._dropped = {name: int(before[name].sum() - keep.sum()) for name, keep in self._alive.items()}
            self._settle()
            if isinstance(action, Regrow):
                old = {name: mask | ~self._masks[name] for name, mask in masks.items()}  # all but the newborn
                impose(self.model, old)
                impose_on_state(self.model, self.optimizer, old)

    def _settle(self) -> None:
        """Make the model follow the decisions."""
        self._masks = tensor_masks(self.ground.recipe.structure, self.ground.sites, self._alive)
        if self._gating:
            self._gating.set(self._masks, self.clock)
        self._hold()

    def _hold(self) -> None:
        if self._gating is None:
            impose(self.model, self._masks)
        else:
            self._gating.mend()
        if self._gating is None or self._gating.holds:
            impose_on_state(self.model, self.optimizer, self._masks)

    def _frozen(self) -> Mapping[str, Tensor]:
        """Masks of those whose dead must not move."""
        return self._masks if self._gating and self._gating.holds else {}

    def _advance(self) -> None:
        if regulariser := self.ground.recipe.regulariser:
            clock, tensors = self._signalled(), {n: p.detach() for n, p in {**self._parameters, **self._learned}.items()}
            self._pulls = {v.site.name: regulariser.advance(v, self._pulls.get(v.site.name), clock) for v in self._views(tensors)}

    def _signalled(self) -> Clock:
        """The clock with what regularisers steer by: the share of the price that is left, and the wish."""
        price = self.ground.price
        left = price({name: mask.sum() for name, mask in self._alive.items()}) / price.dense
        return replace(self.clock, signals={"density": left, **({"goal": self.ground.goal.ratio} if self._wished else {})})

    @property
    def _learned(self) -> dict[str, nn.Parameter]:
        return self._gating.learned if self._gating else {}

    def _views(self, tensors: Mapping[str, Tensor]) -> list[View]:
        return [
            View(site, self.ground.recipe.structure, members(site, tensors), self._alive[site.name]) for site in self.ground.sites
        ]

    def _gather(self, needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        """Gradients from the live step where they will do, else a pass over the data."""
        if shown(needs, self.ground.sites):
            return live(needs, self.ground.sites, self._parameters, self.clock.step)
        if self._data is None or self._gating is not None:
            raise InputError("This criterion needs what a training step does not show; use one on weights or gradients.")
        with torch.enable_grad():
            return collect(self.model, self.ground.sites, needs, self._data, self._loss)

    def _leave(self) -> None:
        if self._freeze:
            self._freeze.remove()
        if self._gating:
            dismiss(self.optimizer, list(self._gating.learned.values()))
            self._gating.detach()
        self._open, self._gating, self._freeze = False, None, None

    def _inside(self) -> None:
        if not self._open:
            raise InputError("The sparsifier is not at work; use it inside its own with statement.")

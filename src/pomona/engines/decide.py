"""The loop that all engines share: score, allocate, select, solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import torch
from torch import Tensor, nn

from pomona.engines.aim import aimed
from pomona.engines.apportion import apportion, parted
from pomona.engines.budget import SLACK, budget
from pomona.engines.coverage import unreached
from pomona.engines.even import Even
from pomona.engines.losses import lost
from pomona.engines.masks import plan_of, stored
from pomona.engines.shared_out import exchanged, owners
from pomona.processes import Processes
from pomona.vocabulary import (
    Criterion,
    Decision,
    Drop,
    Gathered,
    Goal,
    InputError,
    Keeps,
    Limits,
    Plan,
    Price,
    Prune,
    Recipe,
    Regrow,
    Scores,
    Site,
    Solver,
    Statistic,
    View,
    generator,
)

Gather = Callable[[Sequence[Statistic]], Mapping[str, Gathered]]


@dataclass(frozen=True, eq=False)
class Ground:
    """What stays the same during a run: the recipe, where it acts, what it costs, the wish and its limits, the seed.

    `method` is what the user calls the recipe. `measure` is there where the price only foretells: the share of the dense
    price that a plan really leaves, by which the last cut is aimed. `processes` do the run together. `layerwise`: block by block,
    the layers of a block are decided in the order in which they are read, each on what those before it give by then. Raises
    InputError where the goal names families that no site has, or where the structure leaves its allocation nothing to do.
    """

    recipe: Recipe
    sites: tuple[Site, ...]
    price: Price
    goal: Goal
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    method: str = "custom"
    measure: Callable[[Plan], float] | None = None
    processes: Processes = field(default_factory=Processes)
    layerwise: bool = False

    def __post_init__(self) -> None:
        parted(self.goal, self.sites)
        structure, allocation = self.recipe.structure, self.recipe.allocation
        if getattr(allocation, "shares_out", False) and all(structure.feasible(site) is not None for site in self.sites):
            raise InputError(
                f"{structure} fixes how many stay in every group, so {type(allocation).__name__} has nothing to share out; "
                "take another method, or structure weights."
            )

    @property
    def by_name(self) -> dict[str, Site]:
        """The sites by name, in order."""
        return {site.name: site for site in self.sites}

    @property
    def bound(self) -> bool:
        """Whether every site must stay whole, whatever the goal."""
        bounds = budget(self.goal, self.limits, self.price, self.sites)
        return all(bounds.least(site) == site.units for site in self.sites)

    def plan(self, alive: Mapping[str, Tensor], solved: Mapping[str, Mapping[str, Tensor]], *, wished: bool = True) -> Plan:
        """These decisions with where they come from; `wished` says whether there was a goal."""
        keeps = {name: mask.sum() for name, mask in alive.items()}
        bounds = budget(self.goal, self.limits, self.price, self.sites)
        provenance = {
            "method": self.method,
            "recipe": str(self.recipe),
            "goal": str(self.goal) if wished else None,
            "seed": self.seed,
            "price": {"before": self.price.dense, "after": self.price(keeps)},
            "held": [s.name for s in self.sites if int(keeps[s.name]) <= bounds.least(s) < s.units],
        }
        return replace(plan_of(self.recipe.structure, self.sites, alive, solved), provenance=provenance)


def decide(
    ground: Ground,
    action: Prune | Drop | Regrow,
    tensors: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    gather: Gather,
    dropped: Mapping[str, int],
    salt: int,
) -> dict[str, Decision]:
    """One action carried to decisions at every site.

    `tensors` are current values by parameter name, `gather` brings the statistics that the parts declare, `dropped`
    is how many the last `Drop` killed by site, `salt` (the step or round) keeps random draws apart. Where sites share a
    tensor (the columns of one reader behind a concatenation), a solver goes on from what it made of it at the sites before.
    Of several processes all score, the first chooses who stays, and each solves its share of the sites.
    """
    recipe = ground.recipe
    solver = recipe.solver if isinstance(action, Prune) else None
    views, scores = scored(ground, action, tensors, alive, gather, salt, solver.needs if solver else ())

    def cut(wish: Goal) -> dict[str, Tensor]:
        counts = counted(ground, action, wish, scores, alive, dropped)
        return {name: recipe.structure.select(view.site, scores[name], counts[name]) for name, view in views.items()}

    # Chosen by one process for all: another kind of machine could differ in the last digit of a score.
    device = next((value.device for value in tensors.values()), torch.device("cpu"))
    keeps = ground.processes.of_first(lambda: _chosen(ground, action, cut), device)
    said = {name: found.notes for name, found in scores.items()}
    scores.clear()  # they are as large as the weights, and nobody asks again
    if solver is None:
        return _told({name: Decision(keep, notes=said[name]) for name, keep in keeps.items()}, views)
    owner = owners(ground.sites, ground.processes.number)
    own = {name: view for name, view in views.items() if owner[name] == ground.processes.rank}
    solved = {
        name: replace(decision, notes=tuple(dict.fromkeys((*said[name], *decision.notes))))
        for name, decision in _solved(solver, own, keeps).items()
    }
    return exchanged(ground.processes, owner, _told(solved, own), device)


def _told(decisions: Mapping[str, Decision], views: Mapping[str, View]) -> dict[str, Decision]:
    """With what each loses, where its solver does not know, and with what the data never reached among the notes of the first."""
    made = {name: d if d.error is not None else replace(d, error=lost(views[name], d)) for name, d in decisions.items()}
    first, notes = next(iter(made), None), unreached(views.values())
    if first is not None and notes:
        made[first] = replace(made[first], notes=(*made[first].notes, *notes))
    return made


def scored(
    ground: Ground,
    action: Prune | Drop | Regrow,
    tensors: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    gather: Gather,
    salt: int,
    also: Sequence[Statistic] = (),
) -> tuple[dict[str, View], dict[str, Scores]]:
    """What every site is worth, with the views that say so, by site; `also` is gathered as well.

    A site draws its random numbers by its name, so they do not depend on which other sites are looked at with it.
    """
    criterion = action.by or ground.recipe.criterion
    needs = tuple(dict.fromkeys((*criterion.needs, *also)))
    stats = gather(needs) if needs else {}
    views = {
        site.name: View(
            site,
            ground.recipe.structure,
            members(site, tensors),
            alive[site.name],
            stats.get(site.name, Gathered()),
            generator(ground.seed, salt, crc32(site.name.encode())),
        )
        for site in ground.sites
    }
    return views, {name: pin(_score(criterion, view), view.alive, action) for name, view in views.items()}


def counted(
    ground: Ground,
    action: Prune | Drop | Regrow,
    wish: Goal,
    scores: Mapping[str, Scores],
    alive: Mapping[str, Tensor],
    dropped: Mapping[str, int],
) -> Keeps:
    """How many units stay at each site."""
    even = Even.of(ground.sites)
    if isinstance(action, Drop):
        living = {name: int(mask.sum()) for name, mask in alive.items()}
        return even({name: torch.tensor(n - int(action.share * n)) for name, n in living.items()})
    if isinstance(action, Regrow):
        return even({name: mask.sum() + dropped.get(name, 0) for name, mask in alive.items()})
    fixed = {site.name: ground.recipe.structure.feasible(site) for site in ground.sites}
    if all(count is not None for count in fixed.values()):
        return even({name: torch.tensor(count) for name, count in fixed.items() if count is not None})
    return even(apportion(ground.recipe.allocation, wish, ground.limits, ground.price, ground.sites, scores))


def _chosen(ground: Ground, action: Prune | Drop | Regrow, cut: Callable[[Goal], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Who stays; where the price only foretells, the last cut is aimed until it is right as measured."""
    goal = ground.goal
    if ground.measure is None or not isinstance(action, Prune) or action.ratio != goal.ratio:
        return cut(goal.at(action.ratio) if isinstance(action, Prune) else goal)
    measure, price = ground.measure, ground.price
    bounds = budget(goal, ground.limits, price, ground.sites)
    floor = price(bounds.even({site.name: torch.tensor(bounds.least(site)) for site in ground.sites})) / price.dense
    return aimed(
        goal.ratio,
        lambda ratio: cut(replace(goal, ratio=ratio)),
        lambda keeps: measure(ground.plan(keeps, {})),
        floor * (1 + SLACK),
    )


def _solved(solver: Solver, views: Mapping[str, View], keeps: Mapping[str, Tensor]) -> dict[str, Decision]:
    made: dict[str, Tensor] = {}
    decisions = {}
    for name, view in views.items():
        values = {tensor: made.get(tensor, value) for tensor, value in view.tensors.items()}
        decisions[name] = solver.solve(replace(view, tensors=values), keeps[name])
        made |= decisions[name].tensors
    return decisions


def pin(scores: Scores, alive: Tensor, action: Prune | Drop | Regrow) -> Scores:
    """The dead below everyone, unless they may compete; when waking, the living above everyone."""
    if isinstance(action, Regrow):
        return replace(scores, value=scores.value.masked_fill(alive, torch.inf), order=None)
    if isinstance(action, Prune) and action.revive:
        return scores
    order = None if scores.order is None else scores.order.masked_fill(~alive, -1)
    return replace(scores, value=scores.value.masked_fill(~alive, -torch.inf), order=order)


@torch.no_grad()
def write(model: nn.Module, decisions: Mapping[str, Decision]) -> None:
    """Put what a solver made of the survivors into the model, in place."""
    for decision in decisions.values():
        for name, value in decision.tensors.items():
            parameter = stored(model, name)
            parameter.copy_(value.to(parameter))


def members(site: Site, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The members' values and, where `tensors` holds them, the biases beside those that are read, by name.

    Under `gate/<name>` is what a gate has learned here (`<site>/gate/<name>` in `tensors`).
    """
    learned = {key.removeprefix(f"{site.name}/"): value for key, value in tensors.items() if key.startswith(f"{site.name}/gate/")}
    own = [member for member in site.members if not member.buffer]
    read = [weight for m in own if m.role in ("self", "in") and (weight := site.weight or m.weight) is not None]
    names = [
        *(member.tensor for member in own),
        *(bias for weight in read if (bias := weight.bias) is not None and bias in tensors),
    ]
    return {name: tensors[name] for name in names} | learned


def _score(criterion: Criterion, view: View) -> Scores:
    scores = criterion.score(view)
    if not torch.isfinite(scores.value).all():
        raise InputError(
            f"{type(criterion).__name__} scored {view.site.name} with NaN or infinity; its weights or the data hold such values."
        )
    return scores

"""A model and a goal go in; a proven smaller model comes out. The whole way in one place, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from pomona.data import Data
from pomona.engines.decide import Ground
from pomona.engines.oneshot import Outcome, run
from pomona.engines.prices import price
from pomona.face.account import account
from pomona.face.quality import judge_of
from pomona.face.recovering import held, make_training, recover
from pomona.face.report import Report
from pomona.face.result import Result
from pomona.face.wish import Batches, check_fits, check_model, check_needs, check_schedule, goal_for, recipe_for
from pomona.graph import Graph, trace
from pomona.graph.export import inputs_of
from pomona.graph.proof import Proof, prove, require
from pomona.graph.restore import restored
from pomona.graph.surgery import Realised, realise
from pomona.models import Source
from pomona.runtime import Latency, measure_latency
from pomona.vocabulary import Goal, InputError, Limits, Loss, Plan, Progress, Recipe, Recovery, Silent, Site, Structure


def prune(
    model: nn.Module,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str | Recipe = "magnitude",
    goal: str | Goal | None = None,
    structure: str | Structure | None = None,
    data: Any = None,
    calibrate: int | None = 64,
    loss: Loss | None = None,
    seed: int = 0,
    recover: str | Recovery | None = None,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    test: Any = None,
    metric: str | None = None,
    valid: Any = None,
    latency: bool | Mapping[str, Any] = True,
    progress: Progress | None = None,
    source: Source | None = None,
    command: str | None = None,
) -> Result:
    """Prune `model` to `goal`, prove the result, recover it, measure it.

    `args` (a tensor, a tuple or a dict) and `kwargs` are example inputs of one forward pass. `method` is a name of
    `pomona.methods()`, a recipe or its text form; `structure` and `recover` replace the recipe's own ("2:4",
    "channels"; "finetune:3epochs"). `data` is an iterable of batches (tensors, (input, target) pairs or dicts) for
    recovery and for calibration, which takes the first `calibrate` of them (None: all); `loss` is a function of (output,
    target). `test` is data of the same form, a `Data` or a function of the model, and is only ever measured on; `valid`
    picks the best checkpoint of a recovery. `limits`, `only` and
    `skip` (glob patterns over names) say where. `latency` may hold `batch`, `threads`, `pairs`, `seconds`.

    The given model is untouched. Raises InputError for wishes that cannot be met and ProofError when the pruned model
    does not equal the masked one.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> result = pomona.prune(net, torch.randn(2, 8), goal="params=0.5x", structure="neurons", latency=False)
    >>> result.model[0].out_features, result.report.proof.passed
    (15, True)
    """
    progress = progress or Silent()
    check_model(model)
    recipe = recipe_for(method, structure, recover, only, skip)
    name = method if isinstance(method, str) else "custom"
    if isinstance(data, Data):
        data, test = data.train, test if test is not None else data
    batches = Batches.of(data) if data is not None else None
    check_schedule(recipe, name)
    check_needs(recipe, name, batches, loss)
    args, kwargs = inputs_of(args, kwargs)
    judge = judge_of(test, metric, model)
    for given in (batches, judge.data if judge else None):
        check_fits(model, given)

    with progress.stage("tracing", 1) as stage:
        graph = trace(model, args, kwargs)
        stage.advance()
    ground = ground_for(recipe, goal_for(goal, recipe), graph, limits or Limits(), seed)
    before = judge.measure(model) if judge else None
    outcome = run(
        model,
        ground,
        batches=batches.first(calibrate) if batches else (),
        loss=loss,
        judge=judge.value if judge else None,
        progress=progress,
        training=make_training(batches, loss, model, valid, seed, progress) if batches else None,
    )
    plan = Plan(
        outcome.plan.sites,
        outcome.plan.decisions,
        {
            "method": name,
            "recipe": str(recipe),
            "goal": str(ground.goal),
            "seed": seed,
            "price": {"before": ground.price.dense, "after": outcome.price},
        },
    )
    if not plan.removes:
        raise InputError(f"The goal {ground.goal} removes nothing from this model; it leaves too much for the smallest cut.")
    realised, proof = _realise(outcome, graph, plan, args, kwargs, progress)
    pruned = judge.measure(realised.model) if judge else None
    history = recover_realised(recipe, outcome, realised, graph, plan, model, batches, loss, valid, seed, progress)
    if history is not None:
        proof = require(prove(restored(model, graph, plan, realised.model), graph, plan.unsolved(), realised.model, args, kwargs))
    timing = _time(model, realised.model, args, kwargs, latency, progress)
    report = account(
        model,
        realised,
        graph,
        plan,
        recipe,
        name,
        ground,
        proof,
        outcome.rounds,
        timing,
        history,
        qualities=(before, pruned, judge.measure(realised.model) if judge and history is not None else None),
        judge=judge,
        args=args,
        kwargs=kwargs,
        source=source,
        command=command,
    )
    return Result(realised.model, plan, Report.of(report), graph, realised.form, model, args, kwargs, source)


def ground_for(recipe: Recipe, goal: Goal | None, graph: Graph, limits: Limits, seed: int) -> Ground:
    """The sites, the price and the goal of a run; a structure that fixes its own sparsity (2:4) is its own goal."""
    sites = tuple(recipe.structure.sites(graph))
    goal = _settle(recipe.structure, sites, goal)
    return Ground(recipe, sites, price(goal, graph, sites, recipe.structure), goal, limits, seed)


def _settle(structure: Structure, sites: Sequence[Site], goal: Goal | None) -> Goal:
    fixed = [structure.feasible(site) for site in sites]
    if not all(count is not None for count in fixed):
        if goal is None:
            raise InputError("Say how far to prune: goal='sparsity=0.9', 'params=0.5x' or 'macs=0.25x'.")
        return goal
    own = Goal("sparsity", sum(filter(None, fixed)) / sum(site.units for site in sites))
    if goal is not None and goal != own:
        raise InputError(f"{structure} already means {own}; leave the goal out or choose another structure.")
    return own


def _realise(
    outcome: Outcome, graph: Graph, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any], progress: Progress
) -> tuple[Realised, Proof]:
    with progress.stage("proving", 2) as stage:
        realised = realise(outcome.model, graph, plan)
        stage.advance()
        proof = require(prove(outcome.model, graph, plan, realised.model, args, kwargs))
        stage.advance()
    return realised, proof


def recover_realised(
    recipe: Recipe,
    outcome: Outcome,
    realised: Realised,
    graph: Graph,
    plan: Plan,
    teacher: nn.Module,
    batches: Batches | None,
    loss: Loss | None,
    valid: Any,
    seed: int,
    progress: Progress,
) -> Mapping[str, Any] | None:
    """Train the small model, holding the masks that are left on it; None when no recovery is due."""
    if recipe.recovery is None or batches is None or not outcome.recover:
        return None
    hold: Callable[[nn.Module], None] = held(graph, plan)
    return recover(recipe.recovery, realised.model, make_training(batches, loss, teacher, valid, seed, progress)(hold, {}))


def _time(
    before: nn.Module,
    after: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    wish: bool | Mapping[str, Any],
    progress: Progress,
) -> Latency | None:
    if wish is False:
        return None
    return measure_latency(before, after, args, kwargs, progress=progress, **(wish if isinstance(wish, Mapping) else {}))

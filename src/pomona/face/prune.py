"""A model and a goal go in; a proven smaller model comes out. The whole way in one place, top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from pomona.engines.blocks import Chain, seen_by
from pomona.engines.decide import Ground
from pomona.engines.journal import Journal
from pomona.engines.oneshot import Outcome, run
from pomona.engines.prices import price
from pomona.engines.remembered import Remembered
from pomona.engines.sequential import run as sequential_run
from pomona.evaluate import Tasks
from pomona.face.biases import furnished
from pomona.face.biases import noted as told_of_biases
from pomona.face.blockwise import Course, way
from pomona.face.carry_out import carry_out
from pomona.face.job import Job
from pomona.face.opening import brought
from pomona.face.orders import noted as told_of_order
from pomona.face.orders import ordered
from pomona.face.report import heard
from pomona.face.result import Result
from pomona.face.tasked import Asked
from pomona.face.ties import against, noted, parted
from pomona.face.together import check_shared
from pomona.face.wish import (
    Batches,
    check_folder,
    check_needs,
    check_schedule,
    goal_for,
    method_for,
    name_of,
    recipe_for,
    settle,
    sites_of,
)
from pomona.face.workload import Workload, bound
from pomona.graph import Graph, Release
from pomona.models import Source
from pomona.processes import Processes
from pomona.training.batches import seeded
from pomona.vocabulary import Goal, InputError, Limits, Loss, Order, Plan, Progress, Recipe, Recovery, Silent, Structure, spell


def prune(
    model: nn.Module | str | Path,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str | Recipe | None = None,
    goal: str | Goal | None = None,
    structure: str | Structure | None = None,
    order: str | Order | None = None,
    data: Any = None,
    calibrate: int | None = 64,
    loss: Loss | None = None,
    seed: int = 0,
    recover: str | Recovery | None = None,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    exact: bool = False,
    release: Release | None = None,
    test: Any = None,
    overlap: bool = False,
    metric: str | None = None,
    tasks: Asked | None = None,
    valid: Any = None,
    sequential: bool | None = None,
    true_sequential: bool = False,
    blocks: Sequence[str] = (),
    statistics: str | Path | None = None,
    checkpoint: str | Path | None = None,
    latency: bool | Mapping[str, Any] = True,
    processes: Processes | None = None,
    progress: Progress | None = None,
    source: Source | None = None,
    command: str | None = None,
) -> Result:
    """Prune `model` to `goal`, prove the result, recover it, measure it.

    `model` is a module, or what MODEL is on the command line: a transformers folder, `timm:resnet18`, ...; then `data` and
    `test` may be named, too, and inputs may be left out. `args` (a tensor, a tuple or a dict) and `kwargs` are example inputs
    of one forward pass; or `args` is a graph that `trace` made before, such as a result's, so that several goals need one
    trace. `method` is a name of `pomona.methods()`, a recipe or its text form (None: magnitude, or latency-aware for a goal in
    latency); `structure`, `recover` and `order` replace the recipe's own ("2:4", "channels"; "finetune:3epochs"; "swaps",
    "assignment", "none"). `data` is an iterable
    of batches (tensors, (input, target) pairs or dicts) for recovery and for calibration, which takes the first `calibrate` of
    them (None: all); `loss` is a function of (output, target). `test` is data of the same form, a `Data` or a function of the
    model, and is only ever measured on (where both are named, passages of the one in the other are refused, but with `overlap`);
    `tasks` (`pomona.Tasks`) are asked of the dense and of the final model; `valid` picks
    the best state of a recovery. `goal` may say how much stays by family, `heads=0.5,neurons=0.7`, which then is what is
    pruned. `only` and `keep` (names, glob patterns, families, classes of modules) and `limits` say where; with `exact`, axes
    under a normaliser stay whole; with `release="output"`, what the model returns may become narrower. A method that reads
    activations prunes a model with a list of blocks block by block, each judged by what the pruned ones before it give;
    `sequential` asks for that or forbids it, `blocks` names the lists (`model.layers`); `true_sequential` (GPTQ's word) decides
    the layers of a block one by one, each on what the pruned ones before it in the block give, in a single pass. `latency` may
    hold `batch`, `threads`, `pairs`, `seconds`. With `checkpoint`, a folder, the run is written down there after every round,
    block and epoch; called again with the same arguments after a kill, it goes on and ends bit-identical.

    Statistics that are kept in the folder `statistics` serve another goal or structure without a new pass over the data:
    exactly where the whole model is pruned at once, nearly where blocks were judged by what others, cut to another goal, gave.

    Of several `processes` (see `joined`) each gathers on its share of the calibration data and decides its share of the sites,
    and all come to the same plan; carrying it out, recovery and measuring included, is done by each that asks for it.

    The given model is untouched. Raises InputError for wishes that cannot be met and ProofError when the pruned model
    does not equal the masked one.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> result = pomona.prune(net, torch.randn(2, 8), goal="params=0.5x", structure="neurons", latency=False)
    >>> result.model[0].out_features, result.report.proof.passed
    (15, True)
    """
    wish = goal_for(goal)
    method = method_for(method, wish)
    name = name_of(method)
    recipe = recipe_for(method, structure, recover, goal=wish, only=only, keep=keep, exact=exact, order=order)
    check_schedule(recipe, name)
    given = brought(model, args, kwargs, data, test, source, seed, progress or Silent(), overlap)
    job = Job.of(
        given.model,
        given.args,
        given.kwargs,
        data=given.data,
        loss=loss,
        test=given.test,
        metric=metric,
        valid=valid,
        latency=latency,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        source=given.source,
        command=command,
        blocks=blocks,
    )
    if isinstance(tasks, Tasks):
        tasks.check()
    if recipe.recovery is not None:
        check_needs(recipe.recovery.requires, f"The recovery {spell(recipe.recovery)}", job.batches, loss)
    job = furnished(parted(job, recipe, release), recipe, release)
    course = Course(sequential, true_sequential, blocks)
    job, graph, ground, outcome = _planned(
        job, recipe, wish, limits, name, calibrate, release, course, statistics, processes or Processes()
    )
    for note in heard(outcome.plan.provenance.get("notes", ())):
        job.progress.note(note)
    due = recipe.recovery if outcome.recover else None
    return carry_out(
        job, graph, outcome.plan, outcome.model, recipe=ground.recipe, recovery=due, rounds=outcome.rounds, tasks=tasks
    )


def plan(
    model: nn.Module | str | Path,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str | Recipe | None = None,
    goal: str | Goal | None = None,
    structure: str | Structure | None = None,
    order: str | Order | None = None,
    data: Any = None,
    calibrate: int | None = 64,
    loss: Loss | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    exact: bool = False,
    release: Release | None = None,
    sequential: bool | None = None,
    true_sequential: bool = False,
    blocks: Sequence[str] = (),
    statistics: str | Path | None = None,
    checkpoint: str | Path | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What `prune` would remove, and nothing more: no surgery, no proof, no recovery. `replay` carries it out.

    Everything is as in `prune`. On a graph that was traced before it takes a fraction of a second.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> graph = pomona.trace(net, torch.randn(2, 8))
    >>> plans = [pomona.plan(net, graph, goal=goal, structure="neurons") for goal in ("params=0.5x", "params=0.25x")]
    >>> [int(plan.keep("0.weight:0").sum()) for plan in plans]
    [15, 7]
    """
    wish = goal_for(goal)
    method = method_for(method, wish)
    name = name_of(method)
    recipe = recipe_for(method, structure, None, goal=wish, only=only, keep=keep, exact=exact, order=order)
    recipe = recipe.but(recovery=None)
    check_schedule(recipe, name)
    given = brought(model, args, kwargs, data, None, None, seed, progress or Silent())
    job = Job.of(
        given.model, given.args, given.kwargs, data=given.data, loss=loss, seed=seed, checkpoint=checkpoint, progress=progress
    )
    job = furnished(parted(job, recipe, release), recipe, release)
    course = Course(sequential, true_sequential, blocks)
    return _planned(job, recipe, wish, limits, name, calibrate, release, course, statistics, processes or Processes())[3].plan


def _planned(
    job: Job,
    recipe: Recipe,
    goal: Goal | None,
    limits: Limits | None,
    method: str,
    calibrate: int | None,
    release: Release | None,
    course: Course,
    statistics: str | Path | None,
    processes: Processes,
) -> tuple[Job, Graph, Ground, Outcome]:
    """What stays, and the job whose model that is about; raises InputError where that is everything."""
    check_needs(recipe.but(recovery=None).needs, f"The method '{method}'", job.batches, job.loss)
    check_shared(recipe, goal, processes)
    graph = job.trace(release)
    through = way(job.model, graph, recipe, goal, course)
    chains, recipe = (through.chains, through.recipe) if through else ((), recipe)
    ground = _ground(job, recipe, goal, graph, limits or Limits(), method, chains)
    ground = replace(ground, processes=processes, layerwise=course.true_sequential)
    if through:
        job.progress.note(through.told)
    calibration, found = job.batches.first(calibrate) if job.batches else None, None
    if recipe.order is not None:
        job, found = ordered(job, graph, ground, recipe.order, calibration)
    outcome = _decide(job, ground, graph, calibration, chains, check_folder(statistics))
    if not outcome.plan.removes:
        why = "what must stay is all there is" if ground.bound else "it leaves too much for the smallest cut"
        raise InputError(f"The goal {ground.goal} removes nothing from this model: {why}.")
    made = replace(outcome.plan, provenance={**outcome.plan.provenance, "release": graph.released})
    made = told_of_order(made, found) if found is not None else made
    return job, graph, ground, replace(outcome, plan=noted(told_of_biases(made, job), job))


def _ground(
    job: Job, recipe: Recipe, goal: Goal | None, graph: Graph, limits: Limits, method: str, chains: Sequence[Chain]
) -> Ground:
    sites = sites_of(recipe.structure, graph)
    wish = settle(goal, recipe.structure, sites)
    if wish is None:
        raise InputError("Say how far to prune with --goal (goal= in Python): macs=0.25x, latency=0.5x, heads=0.5, ...")
    if graph.missing is not None and wish.cost not in ("sparsity", "params", "units"):
        raise InputError(f"What {wish.cost} cost is unknown ({graph.missing}); ask for sparsity=0.9 or params=0.5x.")
    if wish.cost != "latency":
        counting = seen_by(graph, sites, chains) if chains and wish.cost == "sparsity" else graph
        told = against(price(wish, counting, sites, recipe.structure), job, wish)
        return Ground(recipe, sites, told, wish, limits, job.seed, method)
    load = Workload.of(job.model, job.args, job.kwargs, job.latency, job.progress)
    told = price(wish, graph, sites, recipe.structure, lambda: load.forecast(graph))
    goal = bound(wish, told.dense)
    return Ground(recipe, sites, told, goal, limits, job.seed, method, lambda plan: load.share(plan, graph))


def _decide(
    job: Job, ground: Ground, graph: Graph, calibration: Batches | None, chains: Sequence[Chain], statistics: Path | None
) -> Outcome:
    journal = remembered = None
    if job.checkpoint is not None or statistics is not None:
        with seeded(job.seed):
            first = next(iter(calibration)) if calibration else None
        known = Journal.of(job.checkpoint or Path(), job.model, ground, first, len(calibration) if calibration else 0)
        journal = known if job.checkpoint is not None else None
        if statistics is not None:
            gathering = {"model": known.run["model"], "data": known.run["data"], "way through the blocks": str(chains)}
            remembered = Remembered(Journal(statistics, gathering, ground.processes))
    if chains:
        return sequential_run(
            job.model, ground, chains, batches=calibration or (), progress=job.progress, journal=journal, remembered=remembered
        )
    return run(
        job.model,
        ground,
        batches=calibration or (),
        loss=job.loss,
        # The last cut is judged on the small model; only those before it need the masked one.
        judge=job.judge.value if job.judge and getattr(ground.recipe.schedule, "n", 1) > 1 else None,
        progress=job.progress,
        training=partial(job.training, graph=graph) if job.batches else None,
        journal=journal,
        remembered=remembered,
    )

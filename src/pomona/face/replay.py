"""A plan that exists already, from a training run or a file, carried out on a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pomona import registry
from pomona.face.biases import BIASES, supplied
from pomona.face.carry_out import carry_out
from pomona.face.job import Job
from pomona.face.orders import again
from pomona.face.result import Result
from pomona.face.ties import UNTIED, apart
from pomona.face.wish import check_needs
from pomona.graph.biases import Biases
from pomona.graph.binding import bind
from pomona.models import Source
from pomona.recovery import parse as parse_recovery
from pomona.vocabulary import InputError, Loss, Plan, Progress, Recipe, Recovery, spell


def replay(
    model: nn.Module,
    plan: Plan | str | Path,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    loss: Loss | None = None,
    recover: str | Recovery | None = None,
    seed: int = 0,
    test: Any = None,
    metric: str | None = None,
    valid: Any = None,
    checkpoint: str | Path | None = None,
    latency: bool | Mapping[str, Any] = True,
    progress: Progress | None = None,
    source: Source | None = None,
    command: str | None = None,
) -> Result:
    """Cut `model` as `plan` (or the file that holds it) says, prove the result, recover it if asked to, measure it.

    For the plan of a training run (`s.plan()`), whose model holds zeros that only the small model is rid of, and for
    plans of `prune` on another copy of the model they were made for. Everything else is as in `prune`; the plan's own
    recovery is not repeated. `model` is untouched. Raises InputError where the plan is of another model or removes nothing.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> x = torch.randn(2, 8)
    >>> plan = pomona.prune(net, x, goal="params=0.5x", structure="neurons", latency=False).plan
    >>> pomona.replay(net, plan, x, latency=False).model[0].out_features
    15
    """
    plan = Plan.load(plan) if isinstance(plan, (str, Path)) else plan
    recovery = parse_recovery(recover) if isinstance(recover, str) else recover
    job = Job.of(
        model,
        args,
        kwargs,
        data=data,
        loss=loss,
        test=test,
        metric=metric,
        valid=valid,
        latency=latency,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        source=source,
        command=command,
    )
    if recovery is not None:
        check_needs(recovery.requires, f"The recovery {spell(recovery)}", job.batches, loss)
    job = apart(job, plan.provenance.get(UNTIED, ()))
    job = supplied(job, Biases.from_json(plan.provenance.get(BIASES, {})))
    graph = job.trace(plan.provenance.get("release"))
    plan = bind(plan, graph)
    if not plan.removes:
        raise InputError("The plan removes nothing; there is nothing to carry out.")
    job = again(job, graph, plan)
    return carry_out(job, graph, plan, job.model, recipe=_recipe_of(plan, recovery), recovery=recovery)


def _recipe_of(plan: Plan, recovery: Recovery | None) -> Recipe | None:
    """What made the plan, as far as it says so in words that are known here."""
    try:
        recipe = registry.parse(str(plan.provenance.get("recipe", "")))
    except InputError:
        return None  # a plan made by hand, or by somebody's own parts
    named = registry.recipes().get(str(plan.provenance.get("method")), recipe)
    return recipe.but(recovery=recovery, summary=named.summary, papers=named.papers)

"""Tied tensors are made two before a method that has to write something else under each of their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from pomona.evaluate import count
from pomona.face.job import Job
from pomona.face.wish import sites_of
from pomona.graph import Graph, Release
from pomona.graph.reference import tensors_of
from pomona.graph.untie import untied
from pomona.vocabulary import Goal, InputError, Keeps, Plan, Price, Recipe, evaluating
from pomona.vocabulary.sites import Turning

UNTIED = "untied"  # what the provenance of a plan calls the names


def parted(job: Job, recipe: Recipe, release: Release | None) -> Job:
    """The job with the ties of its model parted that the recipe's solver cannot leave; the job itself where there are none."""
    if not getattr(recipe.solver, "parts_ties", False) or job.batches is None:  # without data it is refused at once
        return job
    graph = job.trace(release)
    names = _names(recipe, graph)
    return apart(job, names) if names else replace(job, traced=graph)


def apart(job: Job, names: Sequence[str]) -> Job:
    """The job of a copy of its model in which these tensors are two; raises InputError where that is another model."""
    if not names:
        return job
    made = untied(job.model, names)
    if not _alike(job, made):
        raise InputError(
            f"{names[0]} is tied, and {type(job.model).__name__} does something else when it is not, so this method cannot be "
            "used; prune something else."
        )
    return replace(job, model=made, given=job.given or job.model, parted=tuple(names), traced=None)


def noted(plan: Plan, job: Job) -> Plan:
    """The plan with what was parted for it."""
    if not job.parted or job.given is None:
        return plan
    more = count(job.model).params - count(job.given).params
    note = f"{', '.join(job.parted)} was tied and became two tensors, which are {more:,} parameters more before anything is cut."
    notes = [note, *plan.provenance.get("notes", ())]
    return replace(plan, provenance={**plan.provenance, UNTIED: list(job.parted), "notes": notes})


def against(price: Price, job: Job, goal: Goal) -> Price:
    """The price held against that of the model as it was given, where parting made it another."""
    if job.given is None or goal.cost != "params":
        return price
    return _Against(price, float(count(job.given).params))


@dataclass(frozen=True, eq=False)
class _Against:
    """A price whose shares are those of another dense model."""

    price: Price
    dense: float

    def __call__(self, keeps: Keeps) -> float:
        return self.price(keeps)


def _names(recipe: Recipe, graph: Graph) -> list[str]:
    turnings = (site.axis.turning for site in sites_of(recipe.structure, graph) if site.axis is not None)
    return sorted({name for turning in turnings if isinstance(turning, Turning) for name in turning.tied})


@torch.no_grad()
def _alike(job: Job, made: nn.Module) -> bool:
    with evaluating(job.model), evaluating(made):
        before, after = (tensors_of(model(*job.args, **job.kwargs)) for model in (job.model, made))
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

"""The same model with its channels in an order in which n:m keeps more: made before anything is decided, proven equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from pomona.collect import collect
from pomona.engines.arrange import Arranged, arranged
from pomona.engines.decide import Gather, Ground
from pomona.face.equal import error
from pomona.face.job import Job
from pomona.face.wish import Batches
from pomona.graph import Graph
from pomona.graph.proof import TOLERANCE
from pomona.graph.reorder import fixed, reordered
from pomona.training.batches import seeded
from pomona.vocabulary import Gathered, InputError, Order, Plan, ProofError, Statistic

ORDERS = "orders"  # what the provenance of a plan calls them


def ordered(job: Job, graph: Graph, ground: Ground, order: Order, batches: Batches | None) -> tuple[Job, Arranged]:
    """The job of a copy of its model in the order found, and what was found. Raises InputError where there are no axes.

    An axis in whose new order the model is not the same function, whatever its graph says, stays as it is.
    """
    if graph.missing is not None:
        raise InputError(f"Channels cannot change places in this model: {graph.missing}; leave the order out.")
    tensors, gather = dict(job.model.named_parameters(remove_duplicate=False)), _gathering(job, ground, batches)
    with job.progress.stage("order", 1) as stage:
        sound = _sound(job, graph, arranged(ground, graph.axes, partial(fixed, job.model), order, tensors, gather))
        stage.advance()
    return _job_of(job, reordered(job.model, graph, sound.orders)) if sound.orders else job, sound


def again(job: Job, graph: Graph, plan: Plan) -> Job:
    """The job of its model in the order that a plan was made for; raises ProofError where that is another function."""
    told = plan.provenance.get(ORDERS)
    if not told:
        return job
    orders = {name: torch.tensor(order) for name, order in told.items()}
    if (moved := error(job, reordered(job.model, graph, orders))) > TOLERANCE:
        raise ProofError(f"In the plan's order of channels the model differs from itself by {moved:.1e}.")
    return _job_of(job, reordered(job.model, graph, orders))


def noted(plan: Plan, found: Arranged) -> Plan:
    """The plan with the order that it was made for, what that brings, and what was left as it is."""
    notes = [*_told(found), *plan.provenance.get("notes", ())]
    orders = {name: order.tolist() for name, order in found.orders.items()}
    return replace(plan, provenance={**plan.provenance, ORDERS: orders, "notes": notes})


def _told(found: Arranged) -> Sequence[str]:
    before, after = (sum(pair[i] for pair in found.kept.values()) for i in (0, 1))
    gain = f", whose readers keep {after / before - 1:.1%} more of their scores" if before > 0 else ""
    made = f"The channels of {len(found.orders)} axes were put into another order first, which is the same model{gain}."
    left = [f"{name} ({why})" for name, why in found.left.items()]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return [made, *([f"Left in their order: {', '.join(left[:3])}{more}."] if left else [])]


def _sound(job: Job, graph: Graph, found: Arranged) -> Arranged:
    """Without the orders in which the model is another function in float64, should there be any."""
    if not found.orders or error(job, reordered(job.model, graph, found.orders)) <= TOLERANCE:
        return found
    wrong = {
        name: "the model is another function in another order"
        for name, order in found.orders.items()
        if error(job, reordered(job.model, graph, {name: order})) > TOLERANCE
    }
    orders = {name: order for name, order in found.orders.items() if name not in wrong}
    if orders and (moved := error(job, reordered(job.model, graph, orders))) > TOLERANCE:
        raise ProofError(f"With its channels in another order the model differs from itself by {moved:.1e}; leave the order out.")
    return Arranged(orders, {name: found.kept[name] for name in orders}, {**found.left, **wrong})


def _job_of(job: Job, model: nn.Module) -> Job:
    return replace(job, model=model, given=job.given or job.model)


def _gathering(job: Job, ground: Ground, batches: Batches | None) -> Gather:
    def gather(needs: Sequence[Statistic]) -> Mapping[str, Gathered]:
        with seeded(job.seed, 1):
            mine = ground.processes.share(batches or ())
            return collect(job.model, ground.sites, needs, mine, job.loss, job.progress, ground.processes)

    return gather

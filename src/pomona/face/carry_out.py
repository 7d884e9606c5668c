"""A plan carried out: cut, proven, recovered, measured, told. What every way to a result ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pomona.face.account import After, account
from pomona.face.job import Job
from pomona.face.recovering import held, recover
from pomona.face.report import Report
from pomona.face.result import Result
from pomona.face.tasked import Asked, tasked
from pomona.graph import Graph
from pomona.graph.proof import Elsewhere, Proof, another, prove, require
from pomona.graph.reference import tensors_of
from pomona.graph.rehearsal import unchanged
from pomona.graph.restore import restored
from pomona.graph.standard import Standard
from pomona.graph.surgery import Realised, realise
from pomona.native.kept_memory import kept_memory
from pomona.runtime import Latency, measure_latency
from pomona.vocabulary import InputError, Plan, Recipe, Recovery, evaluating, first_line

DEAR = 2 * 10**11  # multiply-accumulates: seconds of one core


def carry_out(
    job: Job,
    graph: Graph,
    plan: Plan,
    weights: nn.Module,
    *,
    recipe: Recipe | None,
    recovery: Recovery | None,
    rounds: Sequence[Mapping[str, Any]] = (),
    tasks: Asked | None = None,
) -> Result:
    """The small model with its proof and report.

    `weights` is the model whose values survive, at full size: the job's own, or what rounds of training made of it.
    `recipe` and `rounds` are what the report says about how the plan came about; `recovery` trains the small model,
    `tasks` are asked of both. Raises ProofError when the small model does not equal the masked one.
    """
    before = job.judge.measure(job.model) if job.judge else None
    realised, proof = _realise(job, graph, plan, weights)
    pruned = job.judge.measure(realised.model) if job.judge else None
    history = _recover(job, graph, plan, realised, recovery) if recovery is not None and job.batches is not None else None
    if history is not None:
        masked = restored(job.model, graph, plan, realised.model)
        proof = require(prove(masked, graph, plan.unsolved(), realised.model, job.args, job.kwargs))
    recovered = job.judge.measure(realised.model) if job.judge and history is not None else None
    report = account(
        job,
        realised,
        graph,
        plan,
        recipe,
        proof,
        rounds,
        _time(job, realised.model),
        history,
        qualities=(before, pruned, recovered),
        tasks=tasked(tasks, job.model, realised),
    )
    return Result(realised.model, plan, Report.of(report), graph, realised.form, job.model, job.args, job.kwargs, job.source)


def _realise(job: Job, graph: Graph, plan: Plan, weights: nn.Module) -> tuple[Realised, Proof]:
    with job.progress.stage("proving", 2) as stage, kept_memory():
        standard = Standard.of(weights, graph, plan, job.args, job.kwargs)
        realised = realise(weights, graph, plan, standard)
        stage.advance()
        # Who has the model timed waits for many passes anyway.
        spared = job.latency is False and After.of(graph, plan, realised).pass_macs > DEAR
        elsewhere: Elsewhere = "untried" if spared else run_elsewhere(realised.model, job)
        proof = require(prove(weights, graph, plan, realised.model, job.args, job.kwargs, standard, realised.tried, elsewhere))
        stage.advance()
    return replace(realised, tried=None), proof  # which takes memory


@torch.no_grad()
def run_elsewhere(small: nn.Module, job: Job) -> list[Tensor]:
    """What the small model answers to other inputs, run as users will run it: the proof is in float64, and some kernels want
    certain widths.

    Raises InputError with what would do.
    """
    args, kwargs = another((job.args, dict(job.kwargs)))
    try:
        with evaluating(small), unchanged(small):
            return tensors_of(small(*args, **kwargs))
    except RuntimeError as error:
        raise InputError(
            f"The pruned model is right but this torch cannot run it at these widths ({first_line(error)}); "
            "keep the widths at multiples of 8 (limits=Limits(multiple=8), --multiple 8)."
        ) from error


def _recover(job: Job, graph: Graph, plan: Plan, realised: Realised, recovery: Recovery) -> Mapping[str, Any]:
    """Train the small model, holding the masks that are left on it."""
    training = job.training(held(graph, plan), {}, graph)
    if job.checkpoint is not None:
        training = replace(training, folder=job.checkpoint / "final")
    return recover(recovery, realised.model, training)


def _time(job: Job, small: nn.Module) -> Latency | None:
    if job.latency is False:
        return None
    wish = job.latency if isinstance(job.latency, Mapping) else {}
    return measure_latency(job.given or job.model, small, job.args, job.kwargs, progress=job.progress, **wish)

"""The same model with biases of zero where a method wants to write into biases that are not there, proven equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from pomona.face.equal import error
from pomona.face.job import Job
from pomona.face.wish import sites_of
from pomona.graph import Graph, Release
from pomona.graph.biases import Biases, biased, takes_bias
from pomona.graph.proof import TOLERANCE
from pomona.models.flags import bias_flags
from pomona.vocabulary import Plan, ProofError, Recipe
from pomona.vocabulary.layout import product_shape

BIASES = "biases"  # what the provenance of a plan calls them


def furnished(job: Job, recipe: Recipe, release: Release | None) -> Job:
    """The job with biases at all that reads the sites of a recipe whose solver wants them; the job itself where none is missing.

    Where flags of the model's configuration give these layers a bias, they go up, with all the biases that they bring: what is
    saved opens by that configuration. Layers whose code looks at no bias are left.
    """
    if not getattr(recipe.solver, "adds_biases", False) or job.batches is None:  # without data it is refused at once
        return job
    graph = job.trace(release)
    wanted, job = _missing(recipe, graph, job.model), replace(job, traced=graph)
    while wanted:
        made = next((found for way in _ways(job.model, wanted) if (found := _supplied(job, way)) is not None), job)
        traced = made.trace(release)
        unread = wanted.keys() - {weight.bias for weight in traced.weights.values()}
        if not unread or made is job:
            return replace(made, traced=traced)
        wanted = {name: size for name, size in wanted.items() if name not in unread}
    return job


def supplied(job: Job, biases: Biases) -> Job:
    """The job with the biases that a plan was made for; raises InputError or ProofError where its model cannot have them."""
    made = _supplied(job, biases) if biases.sizes else job
    if made is None:
        raise ProofError("With the plan's biases, which are zero, the model is another function; use the model it was made for.")
    return made


def noted(plan: Plan, job: Job) -> Plan:
    """The plan with the biases that it was made for, and what they cost."""
    if not job.biases.sizes:
        return plan
    members = (member for site in plan.sites.values() for member in site.members if member.role == "in")
    read = {member.weight.bias for member in members if member.weight is not None}
    given, more = len(read & job.biases.sizes.keys()), sum(job.biases.sizes.values())
    flags = f" ({', '.join(job.biases.flags)} in its configuration)" if job.biases.flags else ""
    note = f"{given} weights that read what is pruned had no bias and were given one{flags}: {more:,} parameters more."
    notes = [note, *plan.provenance.get("notes", ())]
    return replace(plan, provenance={**plan.provenance, BIASES: job.biases.to_json(), "notes": notes})


def _missing(recipe: Recipe, graph: Graph, model: nn.Module) -> dict[str, int]:
    """The biases that readers of the recipe's sites could have and do not, with their sizes."""
    members = [member for site in sites_of(recipe.structure, graph) for member in site.members if member.role == "in"]
    found = {}
    for weight in (member.weight for member in members if not member.buffer):
        if weight is None or weight.kind not in ("linear", "conv") or weight.bias is not None or weight.stack is not None:
            continue
        owner, _, attribute = weight.tensor.rpartition(".")
        if owner and attribute == "weight" and takes_bias(model, name := f"{owner}.bias"):
            groups, rows, _ = product_shape(weight)
            found[name] = groups * rows
    return found


def _ways(model: nn.Module, wanted: Mapping[str, int]) -> Iterator[Biases]:
    """With the flags that bring them, and at the wanted places alone."""
    sizes, flags = bias_flags(model, wanted)
    if flags and all(takes_bias(model, name) for name in sizes):
        yield Biases({**wanted, **sizes}, flags)
    yield Biases(wanted)


def _supplied(job: Job, biases: Biases) -> Job | None:
    """The job of the copy that has them; None where that is another function."""
    with job.progress.stage("biases", 1) as stage:
        made = biased(job.model, biases)
        same = error(job, made) <= TOLERANCE
        stage.advance()
    if not same:
        return None
    return replace(job, model=made, given=job.given or job.model, biases=biases, traced=None)

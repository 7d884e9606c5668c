"""Whether a model that is to take another's place is the same function."""

from __future__ import annotations

from torch import nn

from pomona.face.job import Job
from pomona.graph.precise import precise
from pomona.graph.proof import another, difference
from pomona.graph.reference import answer


def error(job: Job, made: nn.Module) -> float:
    """The largest difference of outputs to the job's own model in float64, on the example inputs and on others."""
    given = (job.args, dict(job.kwargs))
    one, two = precise(job.model, borrow=True), precise(made, borrow=True)
    return max(difference(answer(two, *inputs), answer(one, *inputs)) for inputs in (given, another(given)))

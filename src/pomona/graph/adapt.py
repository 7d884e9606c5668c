"""The last resort before a rewritten program: modules keep their state and their call, and get code with other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pomona.graph.expr import Keep
from pomona.graph.graph import Graph
from pomona.graph.mend_calls import Beside
from pomona.graph.mend_code import rewrite_calls
from pomona.graph.mend_config import mend_configs
from pomona.graph.mend_layers import mend_layers
from pomona.graph.mend_scale import widths
from pomona.graph.mend_sizes import sizes
from pomona.graph.mend_slots import groups, slots
from pomona.graph.mend_source import Unreadable
from pomona.graph.mend_trial import Trial
from pomona.graph.precise import precise
from pomona.graph.tried import Tried
from pomona.graph.uneven import settle_heads, take_over, tell_scales
from pomona.vocabulary import Plan

FEW = 12  # trials with new numbers first


def adapt(small: nn.Module, whole: nn.Module, graph: Graph, keep: Keep, plan: Plan, expected: Sequence[Tensor]) -> Tried | str:
    """Put right the sizes that the code of a model with sliced tensors works out by itself, in place; its twin, or what fails.

    `whole` is the model before slicing; `expected` is what the model must answer to the graph's example inputs, in float64.
    """
    known = sizes(graph, keep, plan, whole)
    mend_layers(small, known)
    take_over(small)
    tell_scales(small, widths(graph, keep, plan))
    questions = groups(slots(small, known))
    old = [group.slots[0].told(small) or 0 for group in questions]
    for group in questions:
        group.choose(0, small)
    mend_configs(small, known)
    twin, (args, kwargs) = precise(small, borrow=True), graph.program.example_inputs
    # The integers are settled while every call is put right; then the code itself is. Where new numbers lead nowhere, old ones
    # may do: of a size that every call is told, the attribute has no say.
    beside = Beside(twin, whole, graph, keep, plan)
    trial = Trial(twin, expected, args, kwargs, beside)
    failure = trial.resolve(questions, FEW)
    if failure is not None:
        for group, option in zip(questions, old, strict=True):
            group.choose(option, twin)
        failure = trial.resolve(questions)
    if failure is not None or not beside.calls:
        return failure or "no call in its code asks for a wrong size"
    try:
        rewrite_calls([twin, small], beside.calls)
    except Unreadable as obstacle:
        return str(obstacle)
    trial = Trial(twin, expected, args, kwargs)
    failure = trial.resolve(questions)
    for group in questions:
        group.choose(group.chosen, small)
    settle_heads(small)
    return Tried(twin, trial.answer) if trial.answer is not None else failure or ""

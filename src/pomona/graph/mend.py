"""The Python integers of a resized module: sizes that its code has written down are brought up to date.

What the tensors' shapes settle is settled; where one old number could stand for several new ones (16 = hidden width = 4
heads of 4), the forward pass decides by trial against the outputs of the masked model.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pomona.graph.expr import Keep
from pomona.graph.graph import Graph
from pomona.graph.mend_config import mend_configs
from pomona.graph.mend_layers import mend_layers
from pomona.graph.mend_own import Own
from pomona.graph.mend_scale import Fold, Unscalable, asked, joined, multiply, scales
from pomona.graph.mend_sizes import sizes
from pomona.graph.mend_slots import groups, informed, slots
from pomona.graph.mend_trial import Trial
from pomona.graph.precise import precise
from pomona.graph.tried import Tried
from pomona.graph.uneven import settle_heads, take_over
from pomona.vocabulary import Plan


def mend(small: nn.Module, whole: nn.Module, graph: Graph, keep: Keep, plan: Plan, expected: Sequence[Tensor]) -> Tried | str:
    """Bring the integers of a model with sliced tensors up to date, in place; the twin that is right, or why it does not work.

    `whole` is the model before slicing; `expected` is what the model must answer to the graph's example inputs, in float64.
    """
    known = sizes(graph, keep, plan, whole)
    try:
        sure = scales(graph, keep)
    except Unscalable as obstacle:
        return str(obstacle)
    folds = [Fold(graph, keep, plan, asked(graph, keep, sure))]
    mend_layers(small, known)
    take_over(small)
    open_questions = groups(slots(small, known))
    for group in open_questions:
        group.choose(0, small)
    mended = mend_configs(small, known)
    open_questions = [*informed(open_questions, mended.blueprint, small), *groups(mended.doubts)]
    for group in open_questions:
        group.choose(group.chosen, small)
    settle_heads(small)
    args, kwargs = graph.program.example_inputs
    twin = precise(small, borrow=True)
    multiply(twin, sure, graph, keep, plan)
    trial = Trial(twin, expected, args, kwargs)
    failure = trial.resolve([*folds, *open_questions])
    if failure is not None and len(folds[0].parts) > 1:  # some attention may know its scale, while other looks it up
        folds = folds[0].singles()
        failure = trial.resolve([*folds, *open_questions])
    own = Own.of(whole, small, known, plan) if failure is not None else Own()
    if own.questions:  # one configuration may not tell every module its numbers
        own.set_apart(small, twin)
        failure = trial.resolve([*folds, *open_questions, *own.questions])
    if failure is not None:  # layers that were cut unequally may need unequal answers
        open_questions, own = [single for group in open_questions for single in group.singles()], own.alone()
        failure = trial.resolve([*folds, *open_questions, *own.questions])
    for group in [*open_questions, *own.questions]:
        group.choose(group.chosen, small)
    if failure is None:
        own.reunite(small, twin, lambda: trial.run().right)
    multiply(small, sure, graph, keep, plan)
    for fold in folds:
        fold.settle(small)
    settle_heads(small)
    if trial.answer is None:
        return failure or ""
    return Tried(twin, trial.answer, joined(sure, [part for fold in folds if fold.chosen for part in fold.parts]))

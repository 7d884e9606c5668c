"""The Python integers of a resized module: sizes that its code has written down are brought up to date.

What the tensors' shapes settle is settled; where one old number could stand for several new ones (16 = hidden width = 4
heads of 4), the forward pass decides by trial against the outputs of the masked model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pomona.graph.expr import Keep
from pomona.graph.graph import Graph
from pomona.graph.mend_config import mend_configs
from pomona.graph.mend_layers import mend_layers
from pomona.graph.mend_scale import fold_scales
from pomona.graph.mend_slots import Group, groups, slots
from pomona.graph.mend_sizes import Sizes, sizes
from pomona.graph.precise import precise, precisely, widened
from pomona.graph.proof import TOLERANCE, difference
from pomona.graph.reference import tensors_of
from pomona.vocabulary import Plan

TRIALS = 60


def mend(small: nn.Module, graph: Graph, keep: Keep, plan: Plan, expected: Sequence[Tensor]) -> str | None:
    """Bring the integers of a model with sliced tensors up to date, in place; None, or why it does not work.

    `expected` is what the model must answer to the example inputs of the graph, in float64.
    """
    known = sizes(graph, keep, plan)
    obstacle = fold_scales(small, graph, keep, plan)
    if obstacle:
        return obstacle
    mend_layers(small, known)
    open_questions = groups(slots(small, known), small)
    for group in open_questions:
        group.choose(small, 0)
    mend_configs(small, known)
    args, kwargs = graph.program.example_inputs
    return _Trial(small, expected, args, kwargs).resolve(open_questions)


class _Trial:
    """Forward passes of a float64 twin of the small model, each with other integers; the best answer is kept."""

    def __init__(self, small: nn.Module, expected: Sequence[Tensor], args: Any, kwargs: Mapping[str, Any]) -> None:
        self.small, self.twin = small, precise(small)
        self.expected, self.args, self.kwargs = list(expected), args, kwargs
        self.failure = ""
        self.left = TRIALS

    def resolve(self, questions: Iterable[Group]) -> str | None:
        """Change one group of equal integers at a time, keeping what gets further; None once the answer is right."""
        best = self.run()
        reason = self.failure
        undecided = [group for group in questions if group.options > 1]
        improved = True
        while best < _RIGHT and improved and self.left > 0:
            improved = False
            for group in undecided:
                before = group.chosen
                for option in range(group.options):
                    if option == before or best >= _RIGHT or self.left <= 0:
                        continue
                    group.choose(self.twin, option)
                    result = self.run()
                    if result > best:
                        best, reason, before, improved = result, self.failure, option, True
                group.choose(self.twin, before)
                group.choose(self.small, before)
        return None if best >= _RIGHT else reason

    def run(self) -> tuple[float, float]:
        """How good it is: (operations before it failed, minus the error); right answers compare as highest."""
        self.left -= 1
        with precisely() as counter:
            # The model's own code runs with sizes that may not fit; whatever it raises means that this guess is wrong.
            try:
                got = tensors_of(self.twin(*widened(self.args), **widened(dict(self.kwargs))))
            except Exception as error:
                self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                return counter.ops, float("-inf")
        error = difference(got, self.expected)
        if error <= TOLERANCE:
            return _RIGHT
        self.failure = f"its output differs by {error:.1e}"
        return float("inf"), -error if error == error else float("-inf")


_RIGHT = (float("inf"), 0.0)

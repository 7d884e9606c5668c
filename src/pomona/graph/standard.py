"""What a pruned model is held against, worked out once for its making and its proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pomona.graph.export import where
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks, mask
from pomona.graph.precise import precise
from pomona.graph.reference import answer, kept_outputs, reference
from pomona.graph.rehearsal import forget
from pomona.graph.units import kept_units, pruned_axes
from pomona.vocabulary import InputError, Plan, first_line


@dataclass(frozen=True, eq=False)
class Standard:
    """`whole` is the masked model in float64, `answer` what the pruned model must answer to the inputs.

    Where no pruned axis passes a normaliser that is what `whole` itself answers, with plain zeros (`plain`); otherwise what its
    program does with normalisers over the kept entries.
    """

    whole: nn.Module
    answer: list[Tensor]
    plain: bool

    @classmethod
    def of(cls, model: nn.Module, graph: Graph, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Standard:
        """Raises InputError where the plan was made for another model. The model is untouched."""
        whole = mask(forget(precise(model, borrow=True), args, kwargs), plan)
        if graph.missing is not None:  # nothing is cut then: the masked model's own code is what there is
            return cls(whole, answer(whole, args, kwargs), True)
        keep = kept_units(graph, plan)
        with _in_double(model):
            if all(graph.axes[axis].exact for axis in pruned_axes(graph, plan)):
                return cls(whole, kept_outputs(answer(whole, args, kwargs, zeros=True), graph, keep), True)
            return cls(whole, reference(whole, graph, keep, dead_blocks(plan), args, kwargs), False)


@contextmanager
def _in_double(model: nn.Module) -> Iterator[None]:
    """Where the model's own code or one of its kernels does not take float64, say so: there can be no proof then."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"{type(model).__name__} cannot be run in float64, in which a pruned model is proven{where(model, error)}: "
            f"{first_line(error).rstrip('.')}; use ops that take float64 there."
        ) from error

"""The proof that a small model is the masked one: equal outputs in float64, on the example inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pomona.graph.draws import draws
from pomona.graph.expr import Keep, norm, size
from pomona.graph.graph import Graph
from pomona.graph.masked import dead_blocks, masked
from pomona.graph.mend_code import adapted
from pomona.graph.mend_scale import unrounded
from pomona.graph.precise import wide
from pomona.graph.reference import answer, kept_outputs
from pomona.graph.standard import Standard
from pomona.graph.tried import Tried
from pomona.graph.units import kept_units, pruned_axes
from pomona.vocabulary import Plan, ProofError

Form = Literal["eager", "graph", "masked"]
Elsewhere: TypeAlias = "list[Tensor] | Literal['untried']"
TOLERANCE = 1e-9  # rounding of float64 over a deep network stays a thousand times below, a wrong slice far above
COARSE = 1e4  # times its rounding an output has to move, for the rounding not to matter
DEAD = 1e-6  # an output that answers less than this to another input could hide a wrong slice


@dataclass(frozen=True)
class Proof:
    """What the comparison of the small with the masked model gave.

    `max_error` is the largest difference of outputs over the largest output. In `exact_groups` a zeroed and a removed unit
    are the same function; over `approximate_groups` a normaliser or a mean runs, so that removing a unit is what a normaliser
    that never saw it would do: there the comparison is made with normalisers over the kept entries. `sensitivity` is how much
    the output moves with another input, relative to its size; None where that was not tried.
    """

    passed: bool
    max_error: float
    tolerance: float
    exact_groups: tuple[str, ...]
    approximate_groups: tuple[str, ...]
    form: Form
    sensitivity: float | None
    notes: tuple[str, ...] = ()


def prove(
    model: nn.Module,
    graph: Graph,
    plan: Plan,
    small: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    standard: Standard | None = None,
    tried: Tried | None = None,
    elsewhere: Elsewhere | None = None,
) -> Proof:
    """Compare `small` with `model` masked by the plan, both in float64 and evaluation mode, on these inputs.

    `args` and `kwargs` have the structure that the graph was traced with. Nothing given is changed. `standard` is what the
    masked model answers to these inputs, where that is known. `tried` is a float64 copy of `small` that has answered them: it is
    compared with `small`, and its answer taken, only where both are alike. `elsewhere` is what `small` itself answers to
    `another` inputs: where it moves by far more than its rounding, that is how much it moves. "untried" saves the pass that
    would tell otherwise.
    """
    kwargs = dict(kwargs or {})
    axes = pruned_axes(graph, plan)
    exact = tuple(axis for axis in axes if graph.axes[axis].exact)
    approximate = tuple(axis for axis in axes if not graph.axes[axis].exact)
    standard = standard or Standard.of(model, graph, plan, args, kwargs)
    keep, whole, with_kept = kept_units(graph, plan), standard.whole, standard.answer
    form: Form = "graph" if isinstance(small, fx.GraphModule) else "eager" if axes or dead_blocks(plan) else "masked"
    foldable = form == "eager" and not adapted(small)
    folds = partial(unrounded, small, whole, graph, keep, plan) if foldable else lambda found: dict[str, Tensor]()
    found = tried.still(small, folds) if tried is not None else None
    found = found or Tried.anew(small, args, kwargs, folds, lambda got: difference(got, with_kept) <= TOLERANCE)
    got = found.answer
    errors = [difference(got, with_kept)]
    if not approximate and not standard.plain:
        errors.append(difference(got, kept_outputs(answer(whole, args, kwargs), graph, keep)))
    if form == "masked":
        errors.append(0.0 if _same_state(masked(model, plan), small) else float("inf"))
    error = max(errors, key=_worst)
    random = graph.exported is not None and draws(graph.exported)
    if elsewhere == "untried":
        moved = None
    else:
        moved = _moved(small, elsewhere, got) if elsewhere is not None and not random else None
        moved = difference(answer(found.twin, *another((args, kwargs))), got) if moved is None else moved
        moved = moved if isfinite(moved) else 1.0  # an output of another shape has moved, too
    notes = tuple(_notes(moved, found.rounded, _narrower(graph, keep), random))
    return Proof(error <= TOLERANCE, error, TOLERANCE, exact, approximate, form, moved, notes)


def _moved(small: nn.Module, elsewhere: list[Tensor], got: list[Tensor]) -> float | None:
    """How far its answer to other inputs is from `got`; None where rounding might have a share in that."""
    moved = difference(elsewhere, got)
    coarsest = max((torch.finfo(p.dtype).eps for p in small.parameters() if p.is_floating_point()), default=1.0)
    return moved if isfinite(moved) and moved > COARSE * coarsest else None


def require(proof: Proof) -> Proof:
    """The proof, if it holds; raises ProofError otherwise."""
    if not proof.passed:
        error, allowed = proof.max_error, proof.tolerance
        raise ProofError(f"The pruned model differs from the masked one by {error:.1e} where {allowed:.0e} is allowed.")
    return proof


def _narrower(graph: Graph, keep: Keep) -> int:
    """How many outputs have become narrower with the model."""
    shown = (graph.values.get(n) for n in (graph.program.graph.output_node().all_input_nodes if keep else ()))
    return sum(isinstance(dims, tuple) and any(size(e, keep) != norm(e).n for e in dims) for dims in shown)


def _notes(moved: float | None, rounded: tuple[str, ...], narrower: int, random: bool) -> Iterator[str]:
    if moved is None:
        yield "A pass is dear: whether the output moves with another input, and this torch runs these widths, was not tried."
    elif not moved >= DEAD:
        yield f"The output moves by only {moved:.1e} with another input, so this proof says little."
    if rounded:
        many = len(rounded)
        yield f"{many} query weights took in the scale of the unpruned heads; compared before their last digit was rounded."
    if narrower:
        yield f"{narrower} of the outputs have become narrower with the model; they are compared at the places that it keeps."
    if random:
        yield "The model draws random numbers in evaluation; it is compared on the same draws."


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest max|a - b| / max|b| over pairs of tensors; infinite where their numbers or shapes differ."""
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=False)):
        return float("inf")
    pairs = [(_number(x), _number(y)) for x, y in zip(a, b, strict=True) if y.numel()]
    return max((float((x - y).abs().max() / y.abs().max().clamp(min=1e-300)) for x, y in pairs), key=_worst, default=0.0)


def _number(x: Tensor) -> Tensor:
    return x if x.is_complex() else wide(x).double()


def _worst(error: float) -> float:
    return float("inf") if error != error else error


def another(inputs: Any) -> Any:
    """Other inputs of the same kind: noise of the same size on numbers, whole numbers mirrored in their range.

    Mirrored and in reverse order, so that what rose still rises. What has two values only (a mask) is only reversed.
    """
    random = torch.Generator().manual_seed(0)

    def changed(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dtype == torch.bool or x.dim() == 0:
            return x
        if not x.is_floating_point():
            two = not bool(((x != x.min()) & (x != x.max())).any()) if not x.is_complex() else True
            mirrored = x.flip(-1) if two else x.min() + x.max() - x.flip(-1)
            return x.flip(-1) if torch.equal(mirrored, x) else mirrored
        spread = x.double().std() if x.numel() > 1 else x.double().abs()
        return x + (torch.randn(x.shape, generator=random).to(x.device) * spread.nan_to_num().clamp(min=1e-3)).to(x.dtype)

    return pytree.tree_map(changed, inputs)


def _same_state(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

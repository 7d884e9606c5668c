"""The words of the sentence as protocols: one small contract a word, one file an implementation.

Parts are frozen dataclasses without state: what must survive a step is returned, and the engine keeps it. Higher score
stays; masks are bool, True = alive; randomness comes only from the generator handed in; the engine, never a criterion,
keeps dead units dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from pomona.vocabulary.batch import Batch, Loss
from pomona.vocabulary.beside import Beside
from pomona.vocabulary.clock import Action, Clock
from pomona.vocabulary.goals import Budget, Goal
from pomona.vocabulary.progress import Progress, Silent
from pomona.vocabulary.scores import Decision, Keeps, Scores, State, View
from pomona.vocabulary.sites import Axis, Branch, Site, Weight

# Gradients are those of a loss; beside is the dense model beside the pruned one, which a run block by block has.
Requirement = Literal["data", "labels", "loss", "gradients", "beside"]
Evaluate: TypeAlias = Callable[[Keeps], float]  # quality of a candidate, higher is better


class Graph(Protocol):
    """What structures may ask of a traced model."""

    @property
    def weights(self) -> Mapping[str, Weight]:
        """Every parameter by name, tied ones once, in the order of first use."""
        ...

    @property
    def axes(self) -> Mapping[str, Axis]:
        """Every atom that reaches a parameter, by name, frozen ones included, in the order of first use."""
        ...

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Runs of sibling blocks that can be left out."""
        ...


@runtime_checkable
class Structure(Protocol):
    """What lives or dies together."""

    def sites(self, graph: Graph) -> Sequence[Site]:
        """The sites of a model; raises InputError where the structure does not fit (2:4 on a width of 10)."""
        ...

    def reduce(
        self, site: Site, elements: Mapping[str, Tensor], how: str = "sum", roles: Sequence[str] = ("self", "out")
    ) -> Tensor:
        """Element values -> unit values of the site's shape. `how`: "sum", "mean", "max"."""
        ...

    def select(self, site: Site, scores: Scores, keep: Tensor) -> Tensor:
        """The best feasible mask (bool, site's shape) that keeps `keep` units: shape () or (rows,). Ties: lower index stays."""
        ...

    def expand(self, site: Site, keep: Tensor) -> Mapping[str, Tensor]:
        """Unit mask -> bool masks that broadcast over each member tensor; buffers are left out."""
        ...

    def feasible(self, site: Site) -> int | None:
        """The one count that this structure allows (n:m: n/m of the elements), or None when every count will do."""
        ...

    def window(self, site: Site) -> int:
        """How many neighbours along the input dimension must be chosen together: 1, m of n:m, block width."""
        ...


@dataclass(eq=False)
class Seen:
    """What one probe saw on one batch.

    `inputs` and `input_grads`: weight name -> the raw input of the op that reads it (channels in dimension 1 for
    convolutions, last for everything else) and the gradient there. `grads`: parameter name -> gradient. `weights`: the
    values of the watched parameters during the pass. `experts`: name of a stack of matrices -> (the rows that any of them reads,
    (rows,) int64 that says which). `curvatures`: parameter name -> the loss's Hessian times all watched
    parameters. `blocks`: block name -> (what entered it, what left it). `examples` counts the batch.
    `target` is the batch's, from probes that ask for labels. `trials`: what became of the loss without some units. `missing`:
    weight name -> what the dense model gives in the weight's place, less what is given there now, one row a row of `inputs`.
    """

    examples: int
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    input_grads: Mapping[str, Tensor] = field(default_factory=dict)
    grads: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    curvatures: Mapping[str, Tensor] = field(default_factory=dict)
    blocks: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    target: Any = None
    experts: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    trials: Trials | None = None
    missing: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trials:
    """How the loss liked the model without some of its units, in pairs that leave out what the other keeps.

    `signs`: site name -> int8 (pairs, units), +1 where only the first of a pair keeps the unit, -1 where only the second does, 0
    where both do. `gains` (pairs,) float64: the loss of the second less that of the first. `worth`: site name -> (units,)
    float64, what was thought of the units before any was tried.
    """

    signs: Mapping[str, Tensor]
    gains: Tensor
    worth: Mapping[str, Tensor]


@runtime_checkable
class Probe(Protocol):
    """One way to drive the whole model over a batch. `requires` is what it asks of the user."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """Subset of data, labels, loss, gradients, beside."""
        ...

    @property
    def per_example(self) -> bool:
        """Whether it must be handed one example at a time; the collector then splits the batches."""
        ...

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Drive the model once and return what the watched places saw."""
        ...


@dataclass(frozen=True)
class Watch:
    """What a probe must record: inputs of these weights, gradients of these parameters, ends of these blocks.

    `experts` are stacks of matrices, of which it is told apart who reads what. `sites` are those whose units it leaves out to
    see what happens.
    """

    inputs: frozenset[str] = frozenset()
    grads: frozenset[str] = frozenset()
    blocks: frozenset[str] = frozenset()
    sites: frozenset[Site] = frozenset()
    experts: frozenset[str] = frozenset()

    @classmethod
    def joined(cls, watches: Iterable[Watch]) -> Watch:
        """All that any of them watches."""
        every = list(watches)
        return cls(*(frozenset[Any]().union(*(getattr(w, entry.name) for w in every)) for entry in fields(cls)))


@runtime_checkable
class Statistic(Protocol):
    """A streaming, mergeable accumulator over batches; a frozen dataclass, so equal needs are gathered once.

    One that has `alike(site, seen) -> Hashable` shares an accumulator between the sites for which that is equal.
    """

    @property
    def probe(self) -> Probe:
        """The way the model is driven for it."""
        ...

    def watch(self, site: Site) -> Watch:
        """What the probe must record for this site."""
        ...

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Fold one batch in; the given state may be changed in place and is not used again."""
        ...

    def merge(self, a: State, b: State) -> State:
        """Two halves of the data, gathered apart."""
        ...

    def value(self, state: State, site: Site) -> Tensor:
        """What criteria read."""
        ...


@runtime_checkable
class Criterion(Protocol):
    """How much a unit matters. Never compares sites: that is the allocation's work.

    A criterion may have a `working`, as a solver does; without one scoring is taken to need 24 bytes for each element.
    """

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The statistics that `score` reads."""
        ...

    def score(self, view: View) -> Scores:
        """Finite scores of the site's shape."""
        ...


@runtime_checkable
class Allocation(Protocol):
    """How many stay where: the only part that sees all sites at once."""

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts whose price is at most the budget's limit, met within one unit's cost."""
        ...


@runtime_checkable
class Digesting(Allocation, Protocol):
    """An allocation that needs little of the scores: block by block they may be forgotten, where all would fill the memory."""

    def digest(self, sites: Iterable[str], scores: Mapping[str, Scores]) -> dict[str, float]:
        """What must be kept of scores, by site."""
        ...

    def knowing(self, digest: Mapping[str, float]) -> Allocation:
        """The allocation that follows, which reads no scores."""
        ...


@runtime_checkable
class Order(Protocol):
    """Who are neighbours, where n of m neighbours stay: channels change places before anything is cut."""

    def arrange(self, columns: Tensor, n: int, m: int) -> Tensor:
        """Whom each place gets, int64 (channels,), from scores (rows, channels), higher stays; m divides the channels.

        Equal scores give equal orders.
        """
        ...


@runtime_checkable
class Schedule(Protocol):
    """When. Pure: equal clocks give equal actions."""

    @property
    def clock(self) -> Literal["round", "step"]:
        """What it counts: rounds of the one-shot engine or optimiser steps of the training engine."""
        ...

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """What to do now. By rounds: an empty sequence ends the run."""
        ...


@runtime_checkable
class Gate(Protocol):
    """How a decision acts on the forward pass while training runs."""

    @property
    def holds(self) -> bool:
        """Whether the dead keep the values that they died with, safe from momentum and weight decay."""
        ...

    def learned(self, site: Site, weight: Tensor) -> Mapping[str, Tensor]:
        """Initial values of its own trainable parameters for this site; empty unless the mask is learned."""
        ...

    def apply(self, weight: Tensor, alive: Tensor, learned: Mapping[str, Tensor], clock: Clock) -> Tensor:
        """The weight that the forward pass uses."""
        ...


@runtime_checkable
class Regulariser(Protocol):
    """A pull on weights or gates between decisions. `state` is what it carries: duals, strengths."""

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """A differentiable scalar added to the loss."""
        ...

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """The state after this step."""
        ...


@dataclass(frozen=True)
class Working:
    """What solving for one weight, or scoring it, takes in memory at most, its results included: bytes for each element of the
    weight, copies of the float64 gram matrix of its inputs besides that and its root, and bytes whatever the size.
    """

    weight: int = 64
    gram: float = 4.0
    flat: int = 0


@runtime_checkable
class Solver(Protocol):
    """What the survivors become. May exchange who survives, never how many.

    A solver may have a `working`, by which memory is told before a run; without one it is taken to be `Working()`.
    """

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The statistics that `solve` reads."""
        ...

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The decision for this site."""
        ...


@dataclass(frozen=True, eq=False)
class Training:
    """What an engine hands to a recovery: the user's data and loss, and the hooks that keep the run honest.

    `hold` is called after every optimiser step and re-imposes the masks; `teacher` is the dense model; `validate`
    returns a quality (higher is better) and picks the best checkpoint; `snapshots` holds named copies of the dense
    weights ("start", and those that a recovery recorded) for rewinding; `folder` is where checkpoints go (None: nowhere).
    `beside(model, batches)` walks the blocks of model and teacher together (None: nobody knows them).
    """

    data: Iterable[Batch]
    loss: Loss | None
    hold: Callable[[nn.Module], None]
    teacher: nn.Module | None = None
    validate: Callable[[nn.Module], float] | None = None
    snapshots: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    folder: Path | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    beside: Callable[[nn.Module, Sequence[Batch]], Iterator[Beside]] | None = None


@runtime_checkable
class Recovery(Protocol):
    """Training after a decision; knows how long, how fast, and where the weights start (here, step k, scratch)."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """What it asks of the user."""
        ...

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Train in place; returns plain numbers for the report (loss and quality by epoch)."""
        ...


def generator(seed: int, *salt: int) -> torch.Generator:
    """A generator for one purpose: the same seed and salt give the same stream, different salts do not collide."""
    made = torch.Generator()
    state = seed & 0xFFFFFFFF
    for number in salt:
        state = (state * 1_000_003 + number + 1) & 0x7FFFFFFFFFFFFFFF
    made.manual_seed(state)
    return made

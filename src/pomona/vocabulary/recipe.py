"""A pruning method as data: one sentence, one text form."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from pomona.vocabulary.parts import (
    Allocation,
    Criterion,
    Gate,
    Order,
    Recovery,
    Regulariser,
    Requirement,
    Schedule,
    Solver,
    Structure,
)


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    authors: str
    title: str
    year: int

    def __str__(self) -> str:
        return f"{self.authors}, {self.title}, {self.year}"


@dataclass(frozen=True)
class Recipe:
    """For a goal, remove these structures, least important by this criterion, this much from where by this allocation,

    at these times by this schedule, the condemned fading through this gate under this regulariser, the survivors repaired
    by this solver and this recovery; all of it once channels have changed places into this order. None stands for: nothing
    (regulariser, recovery), leave the survivors alone (solver), hard (gate), every channel where it is (order). `papers`
    and `summary` are prose; everything else about a method is derived.
    """

    structure: Structure
    criterion: Criterion
    allocation: Allocation
    schedule: Schedule
    gate: Gate | None = None
    regulariser: Regulariser | None = None
    solver: Solver | None = None
    recovery: Recovery | None = None
    order: Order | None = None
    at: Literal["trained", "init"] = "trained"
    summary: str = field(default="", compare=False)
    papers: tuple[Paper, ...] = field(default=(), compare=False)

    def but(self, **parts: Any) -> Recipe:
        """The same sentence with some words changed."""
        return replace(self, **parts)

    @property
    def parts(self) -> dict[str, Any]:
        """The words that are there, by slot, in the order of the sentence."""
        slots = ("structure", "order", "criterion", "allocation", "schedule", "gate", "regulariser", "solver", "recovery")
        return {slot: part for slot in slots if (part := getattr(self, slot)) is not None}

    @property
    def needs(self) -> frozenset[Requirement]:
        """What the user must bring: data, labels, gradients (a loss). Derived from the parts."""
        found: set[Requirement] = set()
        for part in self.parts.values():
            found |= getattr(part, "requires", frozenset())
            for statistic in getattr(part, "needs", ()):
                found |= statistic.probe.requires
        if self.schedule.clock == "step":
            found |= {"data", "labels", "gradients"}
        for action_criterion in _criteria(self.schedule):
            for statistic in action_criterion.needs:
                found |= statistic.probe.requires
        return frozenset(found)

    @property
    def when(self) -> Literal["init", "during", "post"]:
        """Before, during or after training. Derived from the schedule."""
        if self.schedule.clock == "step":
            return "during"
        return "init" if self.at == "init" else "post"

    def __str__(self) -> str:
        """The text form: `Slot=Part(...)` joined by `; `, only what is not default. `recipes.parse` reads it back."""
        words = [f"{slot}={spell(part)}" for slot, part in self.parts.items()]
        return "; ".join(words + ([f"at={self.at!r}"] if self.at != "trained" else []))


def spell(value: Any) -> str:
    """A part as the shortest call that makes it again: its class and the arguments that differ from the defaults."""
    if isinstance(value, tuple):
        return "(" + ", ".join(spell(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    if not hasattr(value, "__dataclass_fields__"):
        return repr(value)
    arguments = (f"{name}={spell(now)}" for name, now in changed(value).items())
    return f"{type(value).__name__}({', '.join(arguments)})"


def changed(part: Any) -> dict[str, Any]:
    """The arguments of a part that differ from the defaults, by name."""
    given = {entry.name: (entry, getattr(part, entry.name)) for entry in fields(part) if entry.init}
    return {name: now for name, (entry, now) in given.items() if now != _default(entry)}


def _default(entry: Any) -> Any:
    from dataclasses import MISSING

    if entry.default is not MISSING:
        return entry.default
    return entry.default_factory() if entry.default_factory is not MISSING else MISSING


def _criteria(schedule: Schedule) -> list[Criterion]:
    values = (getattr(schedule, f.name) for f in fields(schedule))  # type: ignore[arg-type]
    return [v for v in values if isinstance(v, Criterion)]

"""Numbers that modules read from a configuration while they run, where one configuration for all layers no longer tells them.

    queries = self.config.num_attention_heads * self.head_dim

Such a module gets a copy of the configuration with numbers of its own, which the forward pass decides like any other integer.
Where all modules turn out to need the same numbers, the one configuration is told them and shared again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from inspect import unwrap
from operator import attrgetter
from types import FunctionType
from typing import Any

from torch import nn

from pomona.graph.blocks import renamed
from pomona.graph.mend_sizes import Sizes
from pomona.graph.mend_slots import Group, Slot, groups
from pomona.vocabulary import Plan

Place = tuple[str, str]  # a module, and the attribute under which it holds an object


@dataclass(frozen=True, eq=False)
class Own:
    """What modules ask of objects that they hold; `questions` are about the small model."""

    questions: list[Group] = field(default_factory=list)
    shared: dict[int, dict[Place, Any]] = field(default_factory=dict)  # by the model: what the modules held before

    @classmethod
    def of(cls, whole: nn.Module, small: nn.Module, known: Sizes, plan: Plan) -> Own:
        """A question for every integer that the code of a module reads from an object, and whose length changed there.

        The first answer is what the object of the small model says.
        """
        found = []
        for old, module in whole.named_modules():
            path = renamed(old, plan) if old else None  # the model's own configuration is everybody's
            for attribute, value in _read(module) if path else ():
                if path and (new := [n for n in known.frames.get(path, {}).get(value, {}) if n != value]):
                    now = attrgetter(attribute)(small.get_submodule(path))
                    found.append(Slot(path, attribute, None, tuple(dict.fromkeys((now, *new, value)))))
        return cls(groups(found))

    def alone(self) -> Own:
        """Each module by itself."""
        return replace(self, questions=[single for group in self.questions for single in group.singles()])

    def set_apart(self, *models: nn.Module) -> None:
        """Give these modules of each model copies of what they hold, in place."""
        for model in models:
            held = self.shared[id(model)] = {place: _held(model, place) for place in self._places()}
            for (path, holder), value in held.items():
                setattr(model.get_submodule(path), holder, copy(value))

    def reunite(self, small: nn.Module, twin: nn.Module, right: Callable[[], bool]) -> None:
        """Let modules share one object again that ended up with equal numbers, as long as the twin is still `right` with it."""
        before = self.shared.get(id(twin), {})
        for held in {id(value): value for value in before.values()}.values():
            told = {place: self._numbers(place) for place, value in before.items() if value is held}
            every = [item for numbers in told.values() for item in numbers.items()]
            agreed = {name: value for name, value in every if all(v == value for n, v in every if n == name)}
            places = [place for place, numbers in told.items() if numbers.keys() <= agreed.keys()]
            said, own = dict(vars(held)), {place: _held(twin, place) for place in places}
            self._share(twin, places, agreed)
            if right():
                self._share(small, places, agreed)
            else:
                vars(held).update(said)
                for (path, holder), value in own.items():
                    setattr(twin.get_submodule(path), holder, value)

    def _share(self, model: nn.Module, places: Sequence[Place], numbers: Mapping[str, int]) -> None:
        """The modules hold again what they held, now with these numbers."""
        for path, holder in places:
            held = self.shared[id(model)][path, holder]
            for name, value in numbers.items():
                setattr(held, name, value)
            setattr(model.get_submodule(path), holder, held)

    def _places(self) -> list[Place]:
        return list(
            dict.fromkeys((slot.module, slot.attribute.partition(".")[0]) for group in self.questions for slot in group.slots)
        )

    def _numbers(self, place: Place) -> dict[str, int]:
        """What was decided for the object that a module holds."""
        found = {}
        for group in self.questions:
            for slot in group.slots:
                holder, _, name = slot.attribute.partition(".")
                if (slot.module, holder) == place:
                    found[name] = slot.options[min(group.chosen, len(slot.options) - 1)]
        return found


def _held(model: nn.Module, place: Place) -> Any:
    return getattr(model.get_submodule(place[0]), place[1])


def _read(module: nn.Module) -> Iterator[tuple[str, int]]:
    """(`config.num_heads`, its value) for the fields that occur in the code of the module's methods."""
    methods = (unwrap(f) for kind in type(module).__mro__ if kind is not nn.Module for f in vars(kind).values() if callable(f))
    names = {name for f in methods if isinstance(f, FunctionType) and f.__name__ != "__init__" for name in f.__code__.co_names}
    for holder, held in vars(module).items():
        if holder in names and hasattr(held, "__dict__") and not callable(held):
            yield from ((f"{holder}.{key}", value) for key, value in vars(held).items() if type(value) is int and key in names)

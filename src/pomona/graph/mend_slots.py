"""Where a module's code may have written down a size, and which numbers could stand there now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import nn

from pomona.graph.mend_layers import geometry, settled
from pomona.graph.mend_sizes import Sizes


@dataclass(frozen=True)
class Slot:
    """An integer attribute, or one place of a tuple, of one module; `options` are ordered by likelihood.

    The attribute may be one of an object that the module holds: `config.num_heads`.
    """

    module: str
    attribute: str
    place: int | None
    options: tuple[int, ...]

    def told(self, blueprint: nn.Module) -> int | None:
        """Which option a model of this architecture and these sizes has; None where it has another number, or no such module."""
        module = dict(blueprint.named_modules()).get(self.module)
        value = getattr(module, self.attribute, None)
        if self.place is not None:
            value = value[self.place] if isinstance(value, (tuple, list)) and len(value) > self.place else None
        return self.options.index(value) if value in self.options else None

    def set(self, model: nn.Module, value: int) -> None:
        """Write a value into the module of this name."""
        *holder, attribute = self.attribute.split(".")
        held: Any = reduce(getattr, holder, model.get_submodule(self.module))
        if self.place is not None:
            old = getattr(held, attribute)
            new: Any = type(old)(value if number == self.place else x for number, x in enumerate(old))
        else:
            new = value
        setattr(held, attribute, new)


@dataclass(eq=False)
class Group:
    """Slots of one attribute in modules of one role, decided together: option k of each, or its last one."""

    role: str
    slots: list[Slot] = field(default_factory=list)
    chosen: int = 0

    @property
    def options(self) -> int:
        """How many choices there are."""
        return max(len(slot.options) for slot in self.slots)

    def singles(self) -> Iterator[Group]:
        """Each slot by itself, as it stands."""
        for slot in self.slots:
            yield Group(slot.module, [slot], min(self.chosen, len(slot.options) - 1))

    def choose(self, option: int, *models: nn.Module) -> None:
        """Write this choice into models."""
        self.chosen = option
        for slot in self.slots:
            for model in models:
                slot.set(model, slot.options[min(option, len(slot.options) - 1)])


def role(module: str) -> str:
    """What modules at the same place of their blocks have in common.

    >>> role("layers.3.attention.out")
    'layers.*.attention.out'
    """
    return re.sub(r"\b\d+\b", "*", module)


def slots(model: nn.Module, known: Sizes) -> Iterator[Slot]:
    """Every integer of a module's own attributes that equals a length which changed in its frame.

    The old value is always among the options: last for single numbers, which mostly are widths, first for places in tuples,
    which mostly are positions, when such a length stayed in the frame as well.
    """
    for path, module in model.named_modules():
        changes, done = known.around(path), {*settled(module), *geometry(module)}
        for attribute, value in list(vars(module).items()):
            if attribute.startswith("_") or attribute in done:
                continue
            for place, old in _integers(value):
                new = [n for n in changes.get(old, {}) if n != old]
                new += [there.left for there in known.lists.get(path, ()) if there.length == old and there.left not in new]
                if new:
                    stays = old in changes.get(old, {}) and place is not None
                    yield Slot(path, attribute, place, (old, *new) if stays else (*new, old))


def groups(found: Iterable[Slot]) -> list[Group]:
    """Slots that belong together, in the order of the modules."""
    together: dict[Any, Group] = {}
    for slot in found:
        key = (role(slot.module), slot.attribute, slot.place, len(slot.options))
        together.setdefault(key, Group(key[0])).slots.append(slot)
    return list(together.values())


def informed(found: Iterable[Group], blueprint: nn.Module | None, model: nn.Module) -> list[Group]:
    """Groups that start from what the blueprint has where it has one of their options; those whose slots disagree fall apart.

    A module of the blueprint whose tensors have other shapes than the model's (its own configuration was not found) is not asked.
    """
    ours, theirs = (_shapes(m) if blueprint is not None else {} for m in (model, blueprint or model))
    known = {path for path in ours if ours[path] == theirs.get(path)}
    out: list[Group] = []
    for group in found:
        told = [slot.told(blueprint) if blueprint is not None and slot.module in known else None for slot in group.slots]
        if None in told or len(set(told)) == 1:
            group.chosen = told[0] or 0
            out.append(group)
        else:
            out += [Group(slot.module, [slot], option or 0) for slot, option in zip(group.slots, told, strict=True)]
    return out


def _shapes(model: nn.Module) -> dict[str, list[tuple[str, torch.Size]]]:
    """By module: its own tensors that are saved, and those of the modules in it."""
    state = [(name, tensor.shape) for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)]
    return {
        path: [(name, shape) for name, shape in state if not path or name.startswith(f"{path}.")]
        for path, _ in model.named_modules()
    }


def _integers(value: Any) -> list[tuple[int | None, int]]:
    if type(value) is int:
        return [(None, value)]
    if type(value) in (tuple, list) and value and all(type(x) is int for x in value):
        return list(enumerate(value))
    return []

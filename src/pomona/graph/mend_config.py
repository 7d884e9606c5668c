"""The configuration that a model keeps of itself: sizes are brought up to date, so that it rebuilds the small model.

The judge is the model's own class: of the numbers that a field could have become, those stay with which the class builds
tensors of the right shapes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from pomona.graph.mend_sizes import Sizes
from pomona.graph.mend_slots import Slot, role

BUILDS = 100  # on the meta device, milliseconds each


@dataclass(frozen=True, eq=False)
class Mended:
    """What came of the configurations.

    `blueprint` is the model that its class builds from them, without memory, unless its layers should be equal and are not.
    `doubts` are fields that no shape of a tensor asked to change.
    """

    blueprint: nn.Module | None = None
    doubts: tuple[Slot, ...] = ()


def mend_configs(model: nn.Module, known: Sizes) -> Mended:
    """Update the fields of every configuration object that the model's modules hold, in place.

    Where the layers end up unequal no configuration says the truth; the fields then hold what comes nearest.
    """
    found = Mended()
    for config, users in _configs(model):
        options = _options(config, users, known)
        for name, value in _lists(config, users, known).items():
            setattr(config, name, value)
        if getattr(model, "config", None) is config and (start := _start(model, config, options)) is not None:
            search = _Search(model, config, _distance(model, start))
            search.go(
                options, sorted({n for sizes in known.frames.values() for old, new in sizes.items() for n in new if n != old})
            )
            built = _built(model, config)
            doubts = (Slot(users[0], f"config.{name}", None, (getattr(config, name), old)) for name, old in search.doubts())
            found = Mended(None if _uneven(model, built) else built, tuple(doubts))
        else:
            for name, new in options.items():
                if len(new) == 1:
                    setattr(config, name, new[0])
    return found


def _start(model: nn.Module, config: Any, options: Mapping[str, Sequence[int]]) -> nn.Module | None:
    """What the class builds from the fields as they are, or else with the first single change with which it builds anything.

    Lists are shorter by now where layers are gone, and many classes refuse a list and a number of layers that disagree.
    """
    if (built := _built(model, config)) is not None:
        return built
    for name, new in options.items():
        for value in new:
            if (built := _built(model, config, {name: value})) is not None:
                setattr(config, name, value)
                return built
    return None


def _configs(model: nn.Module) -> list[tuple[Any, list[str]]]:
    """Configuration objects and the names of the modules that hold them; several modules may hold one."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for path, module in model.named_modules():
        for value in vars(module).values():
            plain = not isinstance(value, (nn.Module, Tensor, type)) and not callable(value) and hasattr(value, "__dict__")
            if plain and any(type(x) is int for x in vars(value).values()):
                found.setdefault(id(value), (value, []))[1].append(path)
    return list(found.values())


def _options(config: Any, users: Sequence[str], known: Sizes) -> dict[str, list[int]]:
    """Field -> what it could have become."""
    found = {}
    for name, old in list(vars(config).items()):
        if type(old) is int and not name.startswith("_"):
            new = {n: None for path in users for n in known.frames.get(path, {}).get(old, {}) if n != old}
            new |= {there.left: None for path in users for there in known.lists.get(path, ()) if there.length == old}
            if new:
                found[name] = list(new)
    return found


def _lists(config: Any, users: Sequence[str], known: Sizes) -> dict[str, list[Any]]:
    """Lists with one entry a layer, without the layers that are gone; where two lists of blocks could be meant, none."""
    gone: dict[int, set[tuple[int, ...]]] = {}
    for there in (there for path in users for there in known.lists.get(path, ())):
        gone.setdefault(there.length, set()).add(there.gone)
    return {
        name: [x for number, x in enumerate(value) if number not in next(iter(gone[len(value)]))]
        for name, value in vars(config).items()
        if type(value) is list and len(gone.get(len(value), ())) == 1 and not name.startswith("_")
    }


class _Search:
    """Change one field at a time as long as the rebuilt model comes nearer to the small one."""

    def __init__(self, model: nn.Module, config: Any, distance: tuple[float, int]) -> None:
        self.model, self.config, self.best, self.builds = model, config, distance, 0
        self.before: dict[str, int] = {}  # the fields that may change

    def go(self, options: Mapping[str, Sequence[int]], lengths: Sequence[int]) -> None:
        """From the fields as they are; or else from all of them changed at once, taking back what need not be."""
        start, before = dict(vars(self.config)), self.before
        before.update({name: getattr(self.config, name) for name in options})
        while self.sweep(options):
            pass
        if self.best[0] in (0, inf) or _uneven(self.model, _built(self.model, self.config)):
            return
        self.tell(options, lengths)
        if self.best[0] == 0:
            return
        there, reached, self.builds = dict(vars(self.config)), self.best, 0
        self.become({**start, **{name: new[0] for name, new in options.items()}})
        self.best = self.distance({}) or (inf, 0)
        every = {name: (*new, before[name]) for name, new in options.items()}
        self.tell(every, lengths)
        while self.sweep(every):
            pass
        for name, value in before.items():
            self.offer(name, value, at_no_loss=True)
        if self.best >= reached:
            self.become(there)
            self.best = reached

    def doubts(self) -> Iterator[tuple[str, int]]:
        """Changed fields, with what they were, that could have stayed as far as tensors tell."""
        for name, old in self.before.items():
            if getattr(self.config, name) != old and (found := self.distance({name: old})) and found[0] <= self.best[0]:
                yield name, old

    def become(self, fields: Mapping[str, Any]) -> None:
        """Give the configuration these fields and no others."""
        vars(self.config).clear()
        vars(self.config).update(fields)

    def tell(self, options: Mapping[str, Sequence[int]], lengths: Sequence[int]) -> None:
        """A field that says nothing ("four times the width"), or is not there, is told a number if the others do not suffice."""
        if 0 < self.best[0] < inf:
            silent = _silent(self.model, self.config)
            # First what modules hold anyway: heads can become fewer once their width is no longer divided out of their number.
            said = [self.offer(name, value, at_no_loss=True) for name in silent for value in _held(self.model, name)]
            if any(said):
                while self.sweep(options):
                    pass
            told = sorted(_unexplained(self.model, _built(self.model, self.config)) | set(lengths))
            if self.sweep({name: told for name in silent}):
                while self.sweep(options):
                    pass

    def sweep(self, options: Mapping[str, Sequence[int]]) -> bool:
        """One pass over the fields; whether anything got nearer."""
        return any([self.offer(name, value) for name, new in options.items() for value in new])

    def offer(self, name: str, value: int, at_no_loss: bool = False) -> bool:
        """Take a value for a field if the rebuilt model comes nearer with it (or as near)."""
        if value == getattr(self.config, name, None) or self.builds >= BUILDS or (self.best == (0, 0) and not at_no_loss):
            return False
        found = self.distance({name: value})
        if found is None or found > self.best or (found == self.best and not at_no_loss):
            return False
        setattr(self.config, name, value)
        self.best = found
        return True

    def distance(self, changes: Mapping[str, int]) -> tuple[float, int] | None:
        """How near the model is that the class builds with some fields changed; None where it refuses to."""
        self.builds += 1
        built = _built(self.model, self.config, changes)
        return None if built is None else _distance(self.model, built)


def _built(model: nn.Module, config: Any, changes: Mapping[str, int] | None = None) -> nn.Module | None:
    """A model of the same class from a changed copy of the configuration, without memory; None where it is refused."""
    # Classes refuse numbers in any way they like, and not every class is built from a configuration alone.
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            copy = deepcopy(config)
            for name, value in (changes or {}).items():
                setattr(copy, name, value)
            return type(model)(copy)
    except Exception:
        return None


def _silent(model: nn.Module, config: Any) -> list[str]:
    """Fields that the model's own code asks for when it is built, and that are None or not there."""
    asked: dict[str, None] = {}
    own = {type(m).__module__ for m in model.modules()}

    class Listening(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = None
            try:
                value = super().__getattribute__(name)
            finally:
                if value is None and sys._getframe(1).f_globals.get("__name__") in own:
                    asked[name] = None
            return value

    listening = deepcopy(config)
    listening.__class__ = Listening
    _built(model, listening)
    return [name for name in asked if not name.startswith("_")]


def _distance(model: nn.Module, built: nn.Module) -> tuple[float, int]:
    """How far a rebuilt model is from this one: by shapes of tensors, then by integers of modules."""
    ours, theirs = _shapes(model), _shapes(built)
    far = 100.0 * len(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        far += sum(abs(log(max(a, 1) / max(b, 1))) for a, b in zip(ours[name], theirs[name], strict=False))
    here, there = dict(_integers(model)), dict(_integers(built))
    passing, built_passing = (dict(m.named_buffers()) for m in (model, built))
    less = sum(there.get(place) != value for place, value in here.items())
    less += sum(name in built_passing and built_passing[name].shape != b.shape for name, b in passing.items())
    return round(far, 9), less


def _uneven(model: nn.Module, built: nn.Module | None) -> bool:
    """Whether layers that any configuration makes equal are not."""
    ours, theirs = _shapes(model), _shapes(built) if built is not None else {}
    equal: dict[tuple[str, torch.Size], set[torch.Size]] = {}
    for name in ours.keys() & theirs.keys():
        equal.setdefault((role(name), theirs[name]), set()).add(ours[name])
    return any(len(shapes) > 1 for shapes in equal.values())


def _unexplained(model: nn.Module, built: nn.Module | None) -> set[int]:
    """Lengths of our tensors that the rebuilt model has otherwise."""
    ours, theirs = _shapes(model), _shapes(built) if built is not None else {}
    return {a for name in ours.keys() & theirs.keys() for a, b in zip(ours[name], theirs[name], strict=False) if a != b}


def _held(model: nn.Module, name: str) -> set[int]:
    """What modules themselves keep under a field's name: a width of heads that stayed, where the configuration divides for it."""
    return {value for (_, attribute), value in _integers(model) if attribute == name}


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Of what is saved; other buffers may be larger than what the model reads of them."""
    return {name: tensor.shape for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}


def _integers(model: nn.Module) -> Iterator[tuple[tuple[str, str], int]]:
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if type(value) is int:
                yield (path, attribute), value

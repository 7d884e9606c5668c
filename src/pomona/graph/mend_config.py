"""The configuration that a model keeps of itself: sizes are brought up to date, so that it rebuilds the small model.

The judge is the model's own class: of the numbers that a field could have become, those stay with which the class builds
tensors of the right shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from pomona.graph.mend_sizes import Sizes

BUILDS = 100  # on the meta device, milliseconds each


def mend_configs(model: nn.Module, known: Sizes) -> None:
    """Update the fields of every configuration object that the model's modules hold, in place.

    Where the layers end up unequal no configuration says the truth; the fields then hold what comes nearest.
    """
    for config, users in _configs(model):
        options = _options(config, users, known)
        for name, value in _lists(config, users, known).items():
            setattr(config, name, value)
        if getattr(model, "config", None) is config and (start := _built(model, config)) is not None:
            _Search(model, config, _distance(model, start)).go(options)
        else:
            for name, new in options.items():
                if len(new) == 1:
                    setattr(config, name, new[0])


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

    def go(self, options: Mapping[str, Sequence[int]]) -> None:
        while self.sweep(options):
            pass
        # A field that says nothing ("four times the width") is told a number only where the others do not suffice.
        silent = [name for name, value in vars(self.config).items() if value is None and not name.startswith("_")]
        if 0 < self.best[0] < inf and silent:
            self.sweep({name: sorted(_unexplained(self.model, _built(self.model, self.config))) for name in silent})

    def sweep(self, options: Mapping[str, Sequence[int]]) -> bool:
        """One pass over the fields; whether anything got nearer."""
        improved = False
        for name, new in options.items():
            for value in new:
                if value == getattr(self.config, name) or self.best == (0, 0) or self.builds >= BUILDS:
                    continue
                self.builds += 1
                built = _built(self.model, self.config, {name: value})
                if built is not None and (found := _distance(self.model, built)) < self.best:
                    setattr(self.config, name, value)
                    self.best, improved = found, True
        return improved


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


def _distance(model: nn.Module, built: nn.Module) -> tuple[float, int]:
    """How far a rebuilt model is from this one: by shapes of tensors, then by integers of modules."""
    ours, theirs = _shapes(model), _shapes(built)
    far = 100.0 * len(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        far += sum(abs(log(max(a, 1) / max(b, 1))) for a, b in zip(ours[name], theirs[name], strict=False))
    here, there = dict(_integers(model)), dict(_integers(built))
    return round(far, 9), sum(there.get(place) != value for place, value in here.items())


def _unexplained(model: nn.Module, built: nn.Module | None) -> set[int]:
    """Lengths of our tensors that the rebuilt model has otherwise."""
    ours, theirs = _shapes(model), _shapes(built) if built is not None else {}
    return {a for name in ours.keys() & theirs.keys() for a, b in zip(ours[name], theirs[name], strict=False) if a != b}


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.shape for name, tensor in tensors}


def _integers(model: nn.Module) -> Iterator[tuple[tuple[str, str], int]]:
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if type(value) is int:
                yield (path, attribute), value

"""The configuration that a model keeps of itself: sizes are brought up to date, so that it rebuilds the small model.

The judge is the model's own class: of the numbers that a field could have become, those stay with which the class builds
tensors of the right shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn

from pomona.graph.mend_sizes import Sizes

BUILDS = 60


def mend_configs(model: nn.Module, known: Sizes) -> None:
    """Update the fields of every configuration object that the model's modules hold, in place.

    Where the layers end up unequal no configuration says the truth; the fields then hold what comes nearest.
    """
    for config, users in _configs(model):
        options = _options(config, users, known)
        for name, value in _lists(config, known).items():
            setattr(config, name, value)
        if hasattr(model, "config") and model.config is config:
            _search(model, config, options)
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


def _options(config: Any, users: list[str], known: Sizes) -> dict[str, list[int]]:
    found = {}
    for name, old in list(vars(config).items()):
        if type(old) is int and not name.startswith("_"):
            new = {n: None for path in users for n in known.frames.get(path, {}).get(old, {}) if n != old}
            new |= {known.containers[old]: None} if old in known.containers else {}
            if new:
                found[name] = list(new)
    return found


def _lists(config: Any, known: Sizes) -> dict[str, list[Any]]:
    """Lists with one entry a layer, without the layers that are gone."""
    return {
        name: [x for number, x in enumerate(value) if number not in known.dropped[len(value)]]
        for name, value in vars(config).items()
        if type(value) is list and len(value) in known.dropped and not name.startswith("_")
    }


def _search(model: nn.Module, config: Any, options: dict[str, list[int]]) -> None:
    """Change one field at a time as long as the rebuilt model comes nearer to the small one."""
    best, builds, improved = _distance(model, config), 0, True
    while best > (0, 0) and improved and builds < BUILDS:
        improved = False
        for name, new in options.items():
            before = getattr(config, name)
            for value in new:
                if value == getattr(config, name) or builds >= BUILDS:
                    continue
                setattr(config, name, value)
                builds += 1
                found = _distance(model, config)
                if found < best:
                    best, before, improved = found, value, True
            setattr(config, name, before)


def _distance(model: nn.Module, config: Any) -> tuple[float, int]:
    """How far a model built from the configuration is from this one: by shapes of tensors, then by integers of modules."""
    # The class may refuse the numbers in any way it likes, or may not be built from a configuration alone.
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            built = type(model)(deepcopy(config))
    except Exception:
        return inf, 0
    ours, theirs = _shapes(model), _shapes(built)
    far = 100.0 * len(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        far += sum(abs(log(max(a, 1) / max(b, 1))) for a, b in zip(ours[name], theirs[name], strict=False))
    here, there = dict(_integers(model)), dict(_integers(built))
    return round(far, 9), sum(there.get(place) != value for place, value in here.items())


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor.shape for name, tensor in tensors}


def _integers(model: nn.Module) -> Iterator[tuple[tuple[str, str], int]]:
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if type(value) is int:
                yield (path, attribute), value

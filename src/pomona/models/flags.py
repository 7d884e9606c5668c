"""Flags of a transformers configuration that give layers a bias, found by building the class with each of them up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any

from torch import nn

from pomona.models.hub import import_transformers, quiet, shapes

# What a class says of a configuration that it cannot be built from.
_REFUSALS = (ValueError, TypeError, RuntimeError, AssertionError, AttributeError, KeyError, ImportError, NotImplementedError)


def bias_flags(model: nn.Module, wanted: Collection[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """(sizes of the biases that the model has with the flags up, the flags): those that bring any of the `wanted` parameters.

    A flag may bring more biases than were wanted, and nothing else. Both are empty for models that are no transformers ones, or
    that are no longer what their configuration says.
    """
    config: Any = getattr(model, "config", None)
    if not wanted or not type(model).__module__.startswith("transformers.") or not hasattr(config, "to_dict"):
        return {}, ()
    here = {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
    if _built(model, config, ()) != here:
        return {}, ()
    flags = tuple(flag for flag in sorted(_down(config)) if _more(here, _built(model, config, (flag,))).keys() & set(wanted))
    more = _more(here, _built(model, config, flags)) if flags else {}
    return more, flags if more else ()


def _more(here: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The biases that are `there` and not here; none where anything else differs."""
    added = {name: shape for name, shape in there.items() if name not in here}
    same = all(there.get(name) == shape for name, shape in here.items())
    if not same or not all(name.endswith(".bias") and len(shape) == 1 for name, shape in added.items()):
        return {}
    return {name: shape[0] for name, shape in added.items()}


def _built(model: nn.Module, config: Any, flags: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters with these flags up; none where the class refuses."""
    tried = deepcopy(config)
    for flag in flags:
        *path, name = flag.split(".")
        owner = tried
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, name, True)
    try:
        with quiet():
            built = shapes(type(model), tried)
    except _REFUSALS:
        return {}
    return {name: tuple(p.shape) for name, p in built.named_parameters(remove_duplicate=False)}


def _down(config: Any, path: str = "") -> Iterator[str]:
    """The flags that are down, of this configuration and of those in it; not those that every configuration has."""
    common: Any = import_transformers().PretrainedConfig
    own = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    for name in own.keys() - vars(common()).keys():
        if own[name] is False:
            yield path + name
        elif isinstance(own[name], common):
            yield from _down(own[name], f"{path}{name}.")

"""The layouts that there are, by their names: what is in a file of `runtime/formats` is found by being there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from pomona.runtime import formats
from pomona.runtime.formats.conv_format import ConvFormat
from pomona.runtime.formats.format import Format
from pomona.vocabulary import InputError


def linear_layout(name: str) -> type[Format]:
    """The layout of matrices of this name. Raises InputError where there is none.

    >>> linear_layout("bitmask").__name__
    'Bitmask'
    """
    return _of(name, linear_layouts())


def conv_layout(name: str) -> type[ConvFormat]:
    """The layout of convolution weights of this name. Raises InputError where there is none."""
    return _of(name, conv_layouts())


def linear_layouts() -> Mapping[str, type[Format]]:
    """All layouts of matrices, by name."""
    return _found()[0]


def conv_layouts() -> Mapping[str, type[ConvFormat]]:
    """All layouts of convolution weights, by name."""
    return _found()[1]


def _of(name: str, known: Mapping[str, type]) -> type:
    if name not in known:
        raise InputError(f"There is no layout {name!r}; there are {', '.join(sorted(known))}.")
    return known[name]


@cache
def _found() -> tuple[Mapping[str, type[Format]], Mapping[str, type[ConvFormat]]]:
    modules = [import_module(f"{formats.__name__}.{found.name}") for found in iter_modules(formats.__path__)]
    classes = {c for module in modules for c in vars(module).values() if isinstance(c, type) and "name" in vars(c)}
    linear: dict[str, type[Format]] = {c.name: c for c in classes if issubclass(c, Format)}
    conv: dict[str, type[ConvFormat]] = {c.name: c for c in classes if issubclass(c, ConvFormat)}
    return linear, conv

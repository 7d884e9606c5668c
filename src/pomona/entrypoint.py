"""`module:function` and `file.py:function`, as users write them on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from pomona.vocabulary import InputError, first_line


def is_entrypoint(text: str) -> bool:
    """Whether the text has the form `module:function`; says nothing about whether it exists.

    >>> is_entrypoint("nets.small:build"), is_entrypoint("nets/small.py:build"), is_entrypoint("corpus.txt")
    (True, True, False)
    """
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or all(p.isidentifier() for p in place.split(".")))


def resolve(text: str) -> Callable[..., Any]:
    """The function that `module:function` names; the module may lie in the working directory.

    Raises InputError when the module, the file or the function is not there, or is no function, or where the module's
    own code raises.
    """
    place, _, name = text.rpartition(":")
    with _running(place):
        module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    found = getattr(module, name, None)
    if found is None:
        close = get_close_matches(name, [n for n in vars(module) if not n.startswith("_")], 1)
        raise InputError(f"{place} has no function '{name}'" + (f"; did you mean '{close[0]}'?" if close else "."))
    if not callable(found):
        raise InputError(f"'{text}' is a {type(found).__name__}; a function is needed.")
    function: Callable[..., Any] = found
    return function


def call(text: str) -> Any:
    """What the function that `module:function` names returns; raises InputError also where it raises something itself."""
    function = resolve(text)
    with _running(text):
        return function()


@contextmanager
def _running(text: str) -> Iterator[None]:
    """The user's code may raise anything; it is bad input all the same, told with the line that raised it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        last = extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name} line {last.lineno}"
        raise InputError(
            f"{text} raised {type(error).__name__}: {first_line(error).rstrip('.')} ({where}); mend it first."
        ) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"pomona_user_{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pickle look a class's module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _from_name(name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"There is no module '{name}' here or among the installed ones; for a file write path/file.py:function."
            ) from None
        raise
    finally:
        if added and here in sys.path:
            sys.path.remove(here)

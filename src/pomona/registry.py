"""Parts and recipes are found by their module: no central list to edit."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from difflib import get_close_matches
from functools import cache
from typing import Any

from pomona.vocabulary import InputError, Recipe

FAMILIES = (
    "structures",
    "criteria",
    "allocations",
    "schedules",
    "gates",
    "regularisers",
    "solvers",
    "orders",
    "recovery",
    "statistics",
    "probes",
)
_SLOTS = ("structure", "criterion", "allocation", "schedule", "gate", "regulariser", "solver", "recovery", "order")


@cache
def parts(family: str) -> dict[str, type]:
    """Public frozen dataclasses defined in the modules of `pomona.<family>`, by class name."""
    found: dict[str, type] = {}
    package = importlib.import_module(f"pomona.{family}")
    for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda e: e.name):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, kind in vars(module).items():
            ours = inspect.isclass(kind) and kind.__module__ == module.__name__ and hasattr(kind, "__dataclass_fields__")
            if ours and not name.startswith("_") and not inspect.isabstract(kind):
                found[name] = kind
    return found


@cache
def recipes() -> dict[str, Recipe]:
    """Every named method: the `Recipe` values in the modules of `pomona.recipes`; underscores read as hyphens."""
    found: dict[str, Recipe] = {}
    package = importlib.import_module("pomona.recipes")
    for entry in sorted(pkgutil.iter_modules(package.__path__), key=lambda e: e.name):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        found |= {name.replace("_", "-"): value for name, value in vars(module).items() if isinstance(value, Recipe)}
    return found


def recipe(method: str | Recipe) -> Recipe:
    """A recipe by name or by its text form; raises InputError with the nearest right spelling."""
    if isinstance(method, Recipe):
        return method
    if "=" in method:
        return parse(method)
    name = method.replace("_", "-")
    if name not in recipes():
        raise InputError(f"There is no method '{method}'{_nearest(name, recipes()) or '; `pomona methods` lists them.'}")
    return recipes()[name]


def parse(text: str) -> Recipe:
    """The inverse of `str(recipe)`: `structure=Weights(); criterion=Magnitude(); ...`. Only calls of known parts are read."""
    words: dict[str, Any] = {}
    for word in filter(None, (w.strip() for w in text.split(";"))):
        slot, _, call = word.partition("=")
        slot = slot.strip()
        if slot not in (*_SLOTS, "at"):
            raise InputError(f"'{slot}' is not a word of a recipe{_nearest(slot, _SLOTS)}.")
        words[slot] = build(call.strip())
    missing = [s for s in _SLOTS[:4] if s not in words]
    if missing:
        raise InputError(f"The recipe '{text}' lacks {', '.join(missing)}.")
    return Recipe(**words)


def build(text: str) -> Any:
    """A part from its call: `Magnitude(norm='l2')`. Literals and known parts only; nothing is evaluated."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise InputError(f"'{text}' cannot be read as a part; write it like Magnitude(norm='l1').") from None
    return _build(tree, text)


def _build(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        known = _known()
        if node.func.id not in known:
            raise InputError(f"There is no part '{node.func.id}'{_nearest(node.func.id, known)}.")
        kind = known[node.func.id]
        try:
            return kind(*(_build(a, text) for a in node.args), **{k.arg: _build(k.value, text) for k in node.keywords if k.arg})
        except TypeError as error:
            raise InputError(f"{node.func.id} cannot be made from '{text}': {error}.") from None
    if isinstance(node, ast.Tuple):
        return tuple(_build(e, text) for e in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise InputError(f"'{text}' may hold only parts, numbers, strings and tuples.") from None


@cache
def _known() -> dict[str, type]:
    return {name: kind for family in FAMILIES for name, kind in parts(family).items()}


def _nearest(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""

"""A recipe in plain English."""

from __future__ import annotations

import re
from typing import Any

from pomona.structures import named
from pomona.vocabulary import Goal, Recipe, changed


def sentence(recipe: Recipe, goal: Goal | None) -> str:
    """For this goal, remove these structures, least important by this criterion, ... in one sentence.

    >>> from pomona import registry
    >>> sentence(registry.recipe("wanda"), Goal.parse("sparsity=0.5"))
    'For sparsity=0.5, remove weights, least important by wanda, shared out by uniform (per row), at once.'
    """
    words = [f"For {goal}, remove {named(recipe.structure)}" if goal else f"Remove {named(recipe.structure)}"]
    links = (
        ("channels first in the order of", recipe.order),
        ("least important by", recipe.criterion),
        ("shared out by", recipe.allocation),
        ("at" if plain(recipe.schedule) == "once" else "in", recipe.schedule),
        ("through the gate", recipe.gate),
        ("under", recipe.regulariser),
        ("survivors repaired by", recipe.solver),
        ("then recovered by", recipe.recovery),
    )
    return ", ".join([*words, *(f"{link} {plain(part)}" for link, part in links if part is not None)]) + "."


def plain(part: Any) -> str:
    """A part in words: its name, and in brackets what differs from the defaults."""
    if not hasattr(part, "__dataclass_fields__"):
        return "+".join(map(plain, part)) if isinstance(part, tuple) else f"{part}"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(part).__name__).lower()
    words = [f"{argument.replace('_', ' ')} {plain(value)}" for argument, value in changed(part).items()]
    return f"{name} ({', '.join(words)})" if words else name

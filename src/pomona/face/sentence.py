"""A recipe in plain English."""

from __future__ import annotations

from pomona.structures import named
from pomona.vocabulary import Goal, Recipe, spell


def sentence(recipe: Recipe, goal: Goal | None) -> str:
    """For this goal, remove these structures, least important by this criterion, ... in one sentence."""
    words = [f"For {goal}, remove" if goal else "Remove", named(recipe.structure)]
    words += [
        "least important by",
        spell(recipe.criterion),
        "allocated by",
        spell(recipe.allocation),
        "at",
        spell(recipe.schedule),
    ]
    for link, part in (
        ("through the gate", recipe.gate),
        ("under", recipe.regulariser),
        ("survivors repaired by", recipe.solver),
    ):
        if part is not None:
            words += [link, spell(part)]
    if recipe.recovery is not None:
        words += ["then recover by", spell(recipe.recovery)]
    return " ".join(words) + "."

"""Heads and neurons of language models go where only inference fits: forward passes, no gradients."""

from pomona.allocations.everywhere import Global
from pomona.criteria.perturbative import Perturbative
from pomona.schedules.slices import Slices
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

bonsai = Recipe(
    Axes(("head", "kv-group", "neuron"), shared=True),
    Perturbative(),
    Global(),
    Slices(),
    summary="Tries the model without random sets of heads and neurons, regresses what each is worth, cuts a slice, tries again.",
    papers=(
        Paper(
            "Dery, Kolawole, Kagy, Smith, Neubig, Talwalkar",
            "Everybody Prune Now: Structured Pruning of LLMs with only Forward Passes",
            2024,
        ),
    ),
)

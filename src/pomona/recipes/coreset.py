"""Neurons are drawn by a bound on what they can do, from weights alone."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.sensitivity import Sensitivity
from pomona.schedules.once import Once
from pomona.solvers.coreset_sample import CoresetSample
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

# The paper goes layer by layer, each fed by the coreset of the one before: here all are drawn from the dense weights.
coreset = Recipe(
    Axes(("neuron", "channel")),
    Sensitivity(),
    Uniform(),
    Once(),
    solver=CoresetSample(),
    summary="Draws the neurons and channels that stay by how much they can matter, and has them speak for the others. No data.",
    papers=(
        Paper("Mussay, Osadchy, Braverman, Zhou, Feldman", "Data-Independent Neural Pruning via Coresets", 2020),
        Paper(
            "Mussay, Feldman, Zhou, Braverman, Osadchy",
            "Data-Independent Structured Pruning of Neural Networks via Coresets",
            2020,
        ),
    ),
)

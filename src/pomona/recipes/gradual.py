"""Gradual magnitude pruning: the baseline that every comparison should include."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.gates.hard import Hard
from pomona.schedules.cubic import Cubic
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

gradual_magnitude = Recipe(
    Weights(),
    Magnitude(),
    Uniform(),
    Cubic(),
    gate=Hard(),
    summary="Raises sparsity along a cube while training goes on; masked weights keep their values and may return.",
    papers=(Paper("Zhu and Gupta", "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017),),
)

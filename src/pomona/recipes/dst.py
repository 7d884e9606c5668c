"""Dynamic sparse training: thresholds are learned, sparsity emerges."""

from pomona.allocations.above import Above
from pomona.criteria.gate_margin import GateMargin
from pomona.gates.learned_threshold import LearnedThreshold
from pomona.regularisers.threshold_pull import ThresholdPull
from pomona.schedules.emerging import Emerging
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

dst = Recipe(
    Weights(),
    GateMargin(),
    Above(),
    Emerging(),
    gate=LearnedThreshold(),
    regulariser=ThresholdPull(),
    summary="Each neuron learns the threshold below which its weights do not count; a goal is steered to and met at the end.",
    papers=(
        Paper(
            "Liu, Xu, Shi, Cheung, So",
            "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers",
            2020,
        ),
    ),
)

"""Whole channels go, by what they save on the machine at hand."""

from typing import get_args

from pomona.allocations.fair import Fair
from pomona.allocations.knapsack import Knapsack
from pomona.allocations.per_price import PerPrice
from pomona.allocations.snapped import Snapped
from pomona.allocations.uniform import Uniform
from pomona.criteria.absolute_taylor import AbsoluteTaylor
from pomona.criteria.grouped import Grouped
from pomona.criteria.magnitude import Magnitude
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.vocabulary import Family, Paper, Recipe

_HALP = Paper("Shen, Yin, Molchanov, Mao, Liu, Alvarez", "Structural Pruning via Latency-Saliency Knapsack", 2022)

latency_aware = Recipe(
    Axes(get_args(Family)),
    Grouped(Magnitude("l2"), combine="sum", roles=("out", "in", "scale")),
    Snapped(Fair(PerPrice()), margin=0.03),
    Once(),
    summary="Removes what weighs least for the time it takes, no layer bearing far more than others; the default for latency.",
    papers=(_HALP,),
)

halp = Recipe(
    Axes(("channel",)),
    AbsoluteTaylor(),
    Knapsack(step=8),
    Rounds(n=3, spacing="geometric"),
    summary="Keeps the channels of the highest total importance that the goal can pay for, in groups of eight; made for latency.",
    papers=(_HALP,),
)

performance_aware = Recipe(
    Axes(("channel",)),
    Magnitude("l1"),
    Snapped(Uniform(), margin=0.03),
    Once(),
    summary="Keeps equal shares of channels, rounded up to widths that no wider layer matches in price; made for latency.",
    papers=(
        Paper(
            "Radu, Kaszyk, Wen, Turner, Cano, Crowley, Franke, Storkey, O'Boyle",
            "Performance Aware Convolutional Neural Network Channel Pruning for Embedded GPUs",
            2019,
        ),
    ),
)

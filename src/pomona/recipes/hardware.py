"""Whole channels go, by what they save on the machine at hand."""

from pomona.allocations.knapsack import Knapsack
from pomona.criteria.absolute_taylor import AbsoluteTaylor
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

halp = Recipe(
    Axes(("channel",)),
    AbsoluteTaylor(),
    Knapsack(step=8),
    Rounds(n=3, spacing="geometric"),
    summary="Keeps the channels of the highest total importance that the goal can pay for, in groups of eight; made for latency.",
    papers=(Paper("Shen, Yin, Molchanov, Mao, Liu, Alvarez", "Structural Pruning via Latency-Saliency Knapsack", 2022),),
)

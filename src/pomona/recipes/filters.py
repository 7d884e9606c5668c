"""Whole channels go, judged by their weights alone."""

from pomona.allocations.everywhere import Global
from pomona.allocations.uniform import Uniform
from pomona.criteria.geometric_median import GeometricMedian
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.norm_scale import NormScale
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

l1_filters = Recipe(
    Axes(("channel",)),
    Magnitude("l1"),
    Uniform(),
    Once(),
    summary="Removes the channels whose filters have the smallest sum of absolute weights, the same share everywhere.",
    papers=(Paper("Li, Kadav, Durdanovic, Samet, Graf", "Pruning Filters for Efficient ConvNets", 2017),),
)

fpgm = l1_filters.but(
    criterion=GeometricMedian(),
    summary="Removes the channels whose filters lie nearest the geometric median of their layer, where others can stand in.",
    papers=(
        Paper(
            "He, Liu, Wang, Hu, Yang",
            "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration",
            2019,
        ),
    ),
)

bn_scale = l1_filters.but(
    criterion=NormScale(),
    allocation=Global(),
    summary="Removes the channels that their normalisation multiplies by the least, under one threshold for the whole model.",
    papers=(
        Paper(
            "Liu, Li, Shen, Huang, Yan, Zhang",
            "Learning Efficient Convolutional Networks through Network Slimming",
            2017,
        ),
    ),
)

"""Whole channels go, judged by what they say on unlabelled data."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.apoz import Apoz
from pomona.criteria.mean_activation import MeanActivation
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

apoz = Recipe(
    Axes(("channel",)),
    Apoz(),
    Uniform(),
    Once(),
    summary="Removes the channels that are zero most often, the same share everywhere.",
    papers=(
        Paper(
            "Hu, Peng, Tai, Tang",
            "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep Architectures",
            2016,
        ),
    ),
)

mean_activation = apoz.but(
    criterion=MeanActivation(),
    summary="Removes the channels that are quietest on average, the same share everywhere.",
    papers=(
        Paper(
            "Molchanov, Tyree, Karras, Aila, Kautz",
            "Pruning Convolutional Neural Networks for Resource Efficient Inference",
            2017,
        ),
    ),
)

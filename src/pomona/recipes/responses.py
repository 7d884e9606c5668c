"""Whole channels go, judged by what their maps hold: rank, independence of the others, what the labels or the last layer need."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.channel_independence import ChannelIndependence
from pomona.criteria.hrank import HRank
from pomona.criteria.hrel import HRel
from pomona.criteria.nisp import Nisp
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

hrank = Recipe(
    Axes(("channel",)),
    HRank(),
    Uniform(),
    Once(),
    summary="Removes the channels whose feature maps have the lowest rank on average, the same share everywhere.",
    papers=(Paper("Lin, Ji, Wang, Zhang, Zhang, Tian, Shao", "HRank: Filter Pruning using High-Rank Feature Map", 2020),),
)

chip = hrank.but(
    criterion=ChannelIndependence(),
    summary="Removes the channels whose feature maps the others of their layer can best make up, the same share everywhere.",
    papers=(
        Paper(
            "Sui, Yin, Xie, Phan, Zonouz, Yuan",
            "CHIP: CHannel Independence-based Pruning for Compact Neural Networks",
            2021,
        ),
    ),
)

hrel = hrank.but(
    criterion=HRel(),
    schedule=Rounds(n=3, spacing="linear"),
    summary="Removes in three rounds the channels whose feature maps tell least about the labels, the same share everywhere.",
    papers=(
        Paper(
            "Sarvani, Ghorai, Dubey, Basha",
            "HRel: Filter Pruning based on High Relevance between Activation Maps and Class Labels",
            2022,
        ),
    ),
)

nisp = hrank.but(
    criterion=Nisp(),
    summary="Removes the channels that the final responses need least, by scores propagated back through absolute weights.",
    papers=(
        Paper(
            "Yu, Li, Chen, Lai, Morariu, Han, Gao, Lin, Davis",
            "NISP: Pruning Networks using Neuron Importance Score Propagation",
            2018,
        ),
    ),
)

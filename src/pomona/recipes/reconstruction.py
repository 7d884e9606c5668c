"""Whole channels go, judged by what the layers that read them would miss."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.contribution import Contribution
from pomona.schedules.once import Once
from pomona.solvers.channel_scale import ChannelScale
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

# The paper goes layer by layer, with an epoch or two of training after each: here all layers are decided on the dense model.
thinet = Recipe(
    Axes(("channel",)),
    Contribution(),
    Uniform(),
    Once(),
    solver=ChannelScale(),
    summary="Removes the channels whose joint absence the next layer notices least, and lets it weigh the others anew.",
    papers=(Paper("Luo, Wu, Lin", "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", 2017),),
)

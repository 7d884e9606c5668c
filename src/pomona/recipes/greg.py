"""Growing regularisation: chosen filters are pushed to zero before they go."""

from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.gates.open import Open
from pomona.regularisers.growing_l2 import GrowingL2
from pomona.schedules.at_step import AtStep
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

greg1 = Recipe(
    Axes(("channel",)),
    Magnitude(norm="l1"),
    Uniform(),
    AtStep(0),
    gate=Open(),
    regulariser=GrowingL2(delta=None),
    summary="Chooses channels by L1 norm at the start, then lets a growing L2 penalty fade them out before they are cut.",
    papers=(Paper("Wang, Qin, Zhang, Fu", "Neural Pruning via Growing Regularization", 2021),),
)

"""Coupled groups go, judged and shrunk by everything that a unit reaches into."""

from pomona.allocations.everywhere import Global
from pomona.criteria.grouped import Grouped
from pomona.criteria.magnitude import Magnitude
from pomona.regularisers.group_shrink import GroupShrink
from pomona.schedules.at_step import AtStep
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

depgraph = Recipe(
    Axes(("channel", "neuron", "width")),
    Grouped(Magnitude("l2"), combine="sum", roles=("out", "in", "scale")),
    Global(relative="mean"),
    Once(),
    summary="Removes the units whose slices of all coupled tensors have the smallest norms for their group.",
    papers=(Paper("Fang, Ma, Song, Mi, Wang", "DepGraph: Towards Any Structural Pruning", 2023),),
)

depgraph_sparse = depgraph.but(
    schedule=AtStep(None),
    regulariser=GroupShrink(),
    summary="Shrinks the weakest units of every coupled group in all their tensors while training goes on, then removes them.",
)

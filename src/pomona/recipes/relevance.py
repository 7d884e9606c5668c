"""Whole channels go, judged by how much of the answer they carry."""

from pomona.allocations.everywhere import Global
from pomona.criteria.lrp import Lrp
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

lrp = Recipe(
    Axes(("channel",)),
    Lrp(),
    Global(),
    Once(),
    summary="Removes the channels that carry least of the class scores, by relevance propagation from a few labelled examples.",
    papers=(
        Paper(
            "Yeom, Seegerer, Lapuschkin, Binder, Wiedemann, Müller, Samek",
            "Pruning by Explaining: A Novel Criterion for Deep Neural Network Pruning",
            2021,
        ),
    ),
)

"""Sparse training with a moving topology: RigL grows by gradient, SET at random."""

from pomona.allocations.erk import Erk
from pomona.criteria.gradient_magnitude import GradientMagnitude
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.schedules.drop_grow import DropGrow
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

rigl = Recipe(
    Weights(),
    Magnitude(),
    Erk(),
    DropGrow(first=Random(), grow=GradientMagnitude()),
    summary="Sparse from the first step; now and then the smallest weights give way to those with the largest gradient.",
    papers=(Paper("Evci, Gale, Menick, Castro, Elsen", "Rigging the Lottery: Making All Tickets Winners", 2020),),
)

set = rigl.but(
    allocation=Erk(kernel=False),
    schedule=DropGrow(first=Random(), grow=Random()),
    summary="Sparse from the first step; now and then the smallest weights give way to random ones.",
    papers=(
        Paper(
            "Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta",
            "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network science",
            2018,
        ),
    ),
)

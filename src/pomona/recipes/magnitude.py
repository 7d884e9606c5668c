"""Small weights go: the baselines of unstructured pruning, by how the layers share what is left."""

from pomona.allocations.erk import Erk
from pomona.allocations.everywhere import Global
from pomona.allocations.lamp import Lamp
from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

_HAN = Paper("Han, Pool, Tran, Dally", "Learning both Weights and Connections for Efficient Neural Networks", 2015)
_LAMP = Paper("Lee, Park, Mo, Ahn, Shin", "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021)
_RIGL = Paper("Evci, Gale, Menick, Castro, Elsen", "Rigging the Lottery: Making All Tickets Winners", 2020)

magnitude = Recipe(
    Weights(),
    Magnitude(),
    Global(),
    Once(),
    summary="Cuts the smallest weights of the whole model at once; layers compete under one threshold.",
    papers=(_HAN,),
)

magnitude_uniform = magnitude.but(
    allocation=Uniform(),
    summary="Cuts the smallest weights of every layer, the same share in each.",
)

magnitude_iterative = magnitude.but(
    schedule=Rounds(n=5, spacing="geometric"),
    summary="Cuts the smallest weights in five rounds with a recovery after each, if one is asked for.",
)

lamp = magnitude.but(
    allocation=Lamp(),
    summary="Compares each weight with those of its layer that would outlive it, so that no layer dies before the others.",
    papers=(_LAMP,),
)

erk = magnitude.but(
    allocation=Erk(),
    summary="Cuts the smallest weights of every layer; layers that are small for their width stay denser.",
    papers=(_RIGL,),
)

random = magnitude.but(
    criterion=Random(),
    allocation=Uniform(),
    summary="Cuts weights by chance, the same share in each layer: what every method must beat.",
    papers=(),
)

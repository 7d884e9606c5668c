"""Two of every four neighbours stay, once channels have changed places so that these are the better ones."""

from pomona.allocations.uniform import Uniform
from pomona.orders.assignment import Assignment
from pomona.orders.swaps import Swaps
from pomona.recipes.language import ria, wanda
from pomona.recipes.magnitude import magnitude
from pomona.structures.n_m import NM
from pomona.vocabulary import Paper

_ASP = Paper(
    "Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius", "Accelerating Sparse Deep Neural Networks", 2021
)
_POOL = Paper("Pool, Yu", "Channel Permutations for N:M Sparsity", 2021)

nm_permuted = magnitude.but(
    structure=NM(),
    allocation=Uniform(),
    order=Swaps(),
    summary="Keeps the largest two of every four neighbours, once channels have changed places so that these are larger.",
    papers=(_POOL, _ASP),
)

wanda_permuted = wanda.but(
    structure=NM(),
    order=Swaps(),
    summary="Wanda at 2:4, once channels have changed places so that more of its scores stay.",
    papers=(*wanda.papers, _POOL),
)

ria_permuted = ria.but(
    structure=NM(),
    order=Assignment(),
    summary="RIA at 2:4, once channels have been assigned to groups of four so that more of its scores stay.",
)

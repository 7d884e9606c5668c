"""What is compared: methods as recipes of Pomona, and the points at which they are."""

from __future__ import annotations

from collections.abc import Mapping

from pomona.allocations.owl import Owl
from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.random import Random
from pomona.orders.swaps import Swaps
from pomona.recipes.language import dsnot, owl, ria, wanda
from pomona.recipes.language_structured import flap, flap_refit, osscar
from pomona.recipes.layerwise import alps, alps_asymmetric, alps_owl, alps_refit, obc, sparsegpt, sparsegpt_asymmetric
from pomona.recipes.magnitude import magnitude_uniform, random
from pomona.vocabulary import Recipe

SPARSITIES = {"50 %": 0.5, "60 %": 0.6, "70 %": 0.7}
PATTERNS = {"2:4": "2:4", "4:8": "4:8"}
SIZES = {"20 % smaller": 0.8, "30 % smaller": 0.7}  # of the blocks' and all other parameters
POINTS = (*SPARSITIES, *PATTERNS, *SIZES)

SPARSE: dict[str, Recipe] = {
    "magnitude": magnitude_uniform,
    "wanda": wanda,
    "ria": ria,
    "dsnot": dsnot,
    "sparsegpt": sparsegpt,
    "obc": obc,
    "sparsegpt-asymmetric": sparsegpt_asymmetric,
    "alps": alps,
    "alps-asymmetric": alps_asymmetric,
    "alps-refit": alps_refit,
    "random": random,
}
WITH_OWL: dict[str, Recipe] = {
    "magnitude-owl": magnitude_uniform.but(allocation=Owl(per="site")),
    "wanda-owl": owl,
    "ria-owl": ria.but(allocation=Owl(per="site")),
    "dsnot-owl": dsnot.but(allocation=Owl()),
    "sparsegpt-owl": sparsegpt.but(allocation=Owl(per="site")),
    "obc-owl": obc.but(allocation=Owl()),
    "alps-owl": alps_owl,
}
TRUE_SEQUENTIAL: dict[str, Recipe] = {"wanda-true-sequential": wanda, "sparsegpt-true-sequential": sparsegpt}
REORDERED: dict[str, Recipe] = {
    "wanda-swaps": wanda.but(order=Swaps()),
    "alps-swaps": alps.but(order=Swaps()),
    "alps-refit-swaps": alps_refit.but(order=Swaps()),
    "alps-asymmetric-swaps": alps_asymmetric.but(order=Swaps()),
}
_UNITS = osscar.but(solver=None)
SMALLER: Mapping[str, Recipe] = {
    "flap": flap,
    "flap-refit": flap_refit,
    "osscar": osscar,
    "magnitude-units": _UNITS.but(criterion=Magnitude("l2"), allocation=Uniform()),
    "random-units": _UNITS.but(criterion=Random(), allocation=Uniform()),
}
AUTHORS = ("authors-wanda", "authors-sparsegpt")
RECIPES: Mapping[str, Recipe] = {**SPARSE, **TRUE_SEQUENTIAL, **WITH_OWL, **REORDERED, **SMALLER}
METHODS = ("dense", *RECIPES, *AUTHORS)
ONE_SEED = ("dense", "magnitude", "magnitude-owl", "magnitude-units")  # no chance, no calibration: every seed gives the same

# Rows that the claims rest on come first.
_FIRST = ("dense", "magnitude", "wanda", "sparsegpt", *AUTHORS, "alps", "alps-asymmetric", "alps-refit")
ORDER = (*_FIRST, *(method for method in METHODS if method not in _FIRST))


def points(method: str) -> tuple[str, ...]:
    """Where a method is measured: nowhere in particular for the dense model, at n:m where its allocation has no say.

    Channels change places for n:m alone.
    """
    if method == "dense":
        return ("dense",)
    if method in SMALLER:
        return tuple(SIZES)
    if method in REORDERED:
        return tuple(PATTERNS)
    return tuple(SPARSITIES) if method in WITH_OWL else (*SPARSITIES, *PATTERNS)

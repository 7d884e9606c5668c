"""Without any training, from a little calibration text: single weights of language models, or whole layers."""

from pomona.allocations.everywhere import Global
from pomona.allocations.owl import Owl
from pomona.allocations.uniform import Uniform
from pomona.criteria.block_influence import BlockInfluence
from pomona.criteria.ria import Ria
from pomona.criteria.wanda import Wanda
from pomona.schedules.once import Once
from pomona.solvers.dsnot import Dsnot
from pomona.structures.layers import Layers
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

_WANDA = Paper("Sun, Liu, Bair, Kolter", "A Simple and Effective Pruning Approach for Large Language Models", 2024)

wanda = Recipe(
    Weights(),
    Wanda(),
    Uniform(per="row"),
    Once(),
    summary="Cuts the weights with the smallest product of |w| and the norm of their input, the same share of every output row.",
    papers=(_WANDA,),
)

ria = Recipe(
    Weights(),
    Ria(),
    Uniform(),
    Once(),
    summary="Cuts the weights that are the least part of their row and of their column, weighted by their input's norm.",
    papers=(
        Paper(
            "Zhang, Bai, Lin, Zhao, Hou, Cannistraci", "Plug-and-Play: An Efficient Post-training Pruning Method for LLMs", 2024
        ),
    ),
)

dsnot = wanda.but(
    solver=Dsnot(),
    summary="Wanda, after which survivors and leavers change places until no row misses much of its mean output.",
    papers=(
        Paper(
            "Zhang, Zhao, Lin, Sun, Yao, Han, Tanner, Liu, Ji",
            "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs",
            2024,
        ),
    ),
)

_OWL = Paper(
    "Yin, Wu, Zhang, Hsieh, Wang, Jia, Li, Jaiswal, Pechenizkiy, Liang, Bendersky, Wang, Liu",
    "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning LLMs to High Sparsity",
    2024,
)

owl = wanda.but(
    allocation=Owl(),
    summary="Wanda, with blocks denser the more outliers there are among their scores.",
    papers=(_OWL, _WANDA),
)

equal_slope = wanda.but(
    allocation=Global("l2"),
    summary="Wanda, with every weight denser the more of its own outputs the next cut would cost: equal slopes everywhere.",
    papers=(_WANDA,),
)

shortgpt = Recipe(
    Layers(),
    BlockInfluence(),
    Global(),
    Once(),
    summary="Leaves out the blocks that turn the residual stream least.",
    papers=(
        Paper(
            "Men, Xu, Zhang, Wang, Lin, Lu, Han, Chen",
            "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
            2024,
        ),
    ),
)

"""Without any training, from a little calibration text: single weights of language models, or whole layers."""

from pomona.allocations.everywhere import Global
from pomona.allocations.uniform import Uniform
from pomona.criteria.block_influence import BlockInfluence
from pomona.criteria.wanda import Wanda
from pomona.schedules.once import Once
from pomona.structures.layers import Layers
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

wanda = Recipe(
    Weights(),
    Wanda(),
    Uniform(per="row"),
    Once(),
    summary="Cuts the weights with the smallest product of |w| and the norm of their input, the same share of every output row.",
    papers=(Paper("Sun, Liu, Bair, Kolter", "A Simple and Effective Pruning Approach for Large Language Models", 2024),),
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

"""Without any training: layer by layer, who survives and with which weights, so that outputs change least (H = X X^T)."""

from pomona.allocations.owl import Owl
from pomona.allocations.uniform import Uniform
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.obc_loss import ObcLoss
from pomona.criteria.wanda import Wanda
from pomona.recovery.refit import Refit
from pomona.schedules.once import Once
from pomona.solvers.admm import Admm
from pomona.solvers.alps import Alps
from pomona.solvers.asymmetric import Asymmetric
from pomona.solvers.least_squares import LeastSquares
from pomona.solvers.obc import Obc
from pomona.solvers.sparsegpt import SparseGPT
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

_OBC = Paper(
    "Frantar, Singh, Alistarh",
    "Optimal Brain Compression: A Framework for Accurate Post-Training Quantization and Pruning",
    2022,
)
_GPTAQ = Paper(
    "Li, Yin, Lee, Xiao, Panda",
    "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
    2025,
)
_WANDA = Paper("Sun, Liu, Bair, Kolter", "A Simple and Effective Pruning Approach for Large Language Models", 2024)

sparsegpt = Recipe(
    Weights(),
    Wanda(),
    Uniform(),
    Once(),
    solver=SparseGPT(),
    summary="Settles columns from left to right: the cheapest weights leave, and the columns to the right make up for them.",
    papers=(Paper("Frantar, Alistarh", "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023),),
)

alps = sparsegpt.but(
    solver=Alps(),
    summary="Finds survivors and their weights together by operator splitting, then fits the weights to the survivors.",
    papers=(
        Paper(
            "Meng, Behdin, Wang, Mazumder",
            "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models",
            2024,
        ),
    ),
)

alps_owl = alps.but(
    allocation=Owl(per="site"),
    summary="ALPS, with blocks denser the more outliers there are among their scores.",
    papers=(
        *alps.papers,
        Paper(
            "Yin, Wu, Zhang, Hsieh, Wang, Jia, Li, Jaiswal, Pechenizkiy, Liang, Bendersky, Wang, Liu",
            "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning LLMs to High Sparsity",
            2024,
        ),
    ),
)

alps_refit = alps.but(
    recovery=Refit(),
    summary="ALPS, after which the survivors are fitted, block by block, to what the dense model puts out, not only the layer.",
    papers=(*alps.papers, _GPTAQ),
)

# The solvers choose by themselves; nobody asks how the criterion would, so it is one that reads no data.
sparsegpt_asymmetric = sparsegpt.but(
    criterion=Magnitude(),
    solver=Asymmetric(SparseGPT()),
    summary="SparseGPT, layer by layer, each for what the dense model has in its place: errors of those before are taken back.",
    papers=(*sparsegpt.papers, _GPTAQ),
)

alps_asymmetric = alps.but(
    criterion=Magnitude(),
    solver=Asymmetric(Alps()),
    summary="ALPS, layer by layer, each for what the dense model has in its place: errors of those before are taken back.",
    papers=(*alps.papers, _GPTAQ),
)

admm_update = sparsegpt.but(
    solver=Admm(),
    summary="Cuts ever more of the smallest products of |w| and the norm of the input, while all others are fitted anew.",
    papers=(Paper("Boza", "Fast and Effective Weight Update for Pruned Large Language Models", 2024),),
)

obc = sparsegpt.but(
    allocation=Uniform(per="row"),
    solver=Obc(),
    summary="From every output row the cheapest weight leaves and all others make up for it, one by one.",
    papers=(_OBC,),
)

obc_levels = Recipe(
    Weights(),
    ObcLoss(),
    Uniform(),
    Once(),
    solver=LeastSquares(),
    summary="Walks every output row down to nothing once, and stops all rows of a weight where their next steps cost the same.",
    papers=(_OBC,),
)

wanda_refit = Recipe(
    Weights(),
    Wanda(),
    Uniform(per="row"),
    Once(),
    solver=LeastSquares(),
    summary="Wanda, after which the survivors are fitted to the outputs of the whole weight.",
    papers=(_WANDA,),
)

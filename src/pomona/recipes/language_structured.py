"""Without any training, from a little calibration text: heads, neurons, experts and whole runs of layers of language models."""

from pomona.allocations.everywhere import Global
from pomona.allocations.uniform import Uniform
from pomona.criteria.angular_distance import AngularDistance
from pomona.criteria.fluctuation import Fluctuation
from pomona.criteria.magnitude import Magnitude
from pomona.criteria.principal import Principal
from pomona.criteria.reap import Reap
from pomona.schedules.once import Once
from pomona.solvers.consecutive import Consecutive
from pomona.solvers.mean_bias import MeanBias
from pomona.solvers.osscar import Osscar
from pomona.solvers.turned import Turned
from pomona.structures.axes import Axes
from pomona.structures.layers import Layers
from pomona.vocabulary import Paper, Recipe

flap = Recipe(
    Axes(("head", "kv-group", "neuron"), shared=True),
    Fluctuation(standardised=True),
    Global(),
    Once(),
    solver=MeanBias(),
    summary="Removes heads and neurons whose outputs vary least, and puts their means into the biases of those who read them.",
    papers=(Paper("An, Zhao, Yu, Tang, Wang", "Fluctuation-based Adaptive Structured Pruning for Large Language Models", 2024),),
)

deeper_layers = Recipe(
    Layers(),
    AngularDistance(),
    Global(),
    Once(),
    solver=Consecutive(),
    summary="Leaves out the run of consecutive blocks between whose ends the last token's direction changes least.",
    papers=(
        Paper("Gromov, Tirumala, Shapourian, Glorioso, Roberts", "The Unreasonable Ineffectiveness of the Deeper Layers", 2025),
    ),
)

reap = Recipe(
    Axes(("expert",)),
    Reap(),
    Uniform(level=True),
    Once(),
    summary="Removes the experts that add least to the tokens that the router sends to them, the same share in every layer.",
    papers=(
        Paper(
            "Lasby, Lazarevich, Sinnadurai, Lie, Ioannou, Thangarasa",
            "REAP the Experts: Why Pruning Prevails for One-Shot MoE Compression",
            2025,
        ),
    ),
)

osscar = Recipe(
    Axes(("head", "kv-group", "neuron"), shared=True),
    Magnitude("l2", roles=("in",)),
    Uniform(),
    Once(),
    solver=Osscar(),
    summary="Finds heads and neurons that can leave and weights for those who read them, so that their outputs change least.",
    papers=(
        Paper(
            "Meng, Ibrahim, Behdin, Hazimeh, Ponomareva, Mazumder",
            "OSSCAR: One-Shot Structured Pruning in Vision and Language Models with Combinatorial Optimization",
            2024,
        ),
    ),
)

flap_refit = flap.but(
    solver=Osscar(exchange=False),
    summary="FLAP's choice of heads and neurons, after which their readers are fitted to the outputs of all; adds no biases.",
    papers=(*flap.papers, *osscar.papers),
)

slicegpt = Recipe(
    Axes(("width",)),
    Principal(),
    Uniform(),
    Once(),
    solver=Turned(),
    summary="Turns the residual stream onto its principal directions, one rotation for all blocks, and cuts the least of them.",
    papers=(
        Paper(
            "Ashkboos, Croci, Gennari do Nascimento, Hoefler, Hensman",
            "SliceGPT: Compress Large Language Models by Deleting Rows and Columns",
            2024,
        ),
    ),
)

slicegpt_refit = slicegpt.but(
    criterion=Principal(apart=True),
    solver=Turned(refit=True),
    summary="SliceGPT, after which those who read the stream are fitted to what they read before; better, for more memory.",
)

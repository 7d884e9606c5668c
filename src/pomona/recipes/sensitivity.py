"""Whole channels go, judged by what the loss says about them."""

from pomona.allocations.everywhere import Global
from pomona.criteria.activation_taylor import ActivationTaylor
from pomona.criteria.fisher import Fisher
from pomona.criteria.sosp import Sosp
from pomona.criteria.taylor import Taylor
from pomona.recovery.fine_tune import FineTune
from pomona.schedules.once import Once
from pomona.schedules.rounds import Rounds
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

taylor = Recipe(
    Axes(("channel",)),
    Taylor(),
    Global(relative="mean"),
    Once(),
    summary="Removes the channels whose removal costs least to first order, relative to the other channels of its axis.",
    papers=(Paper("Molchanov, Mallya, Tyree, Frosio, Kautz", "Importance Estimation for Neural Network Pruning", 2019),),
)

taylor_activation = taylor.but(
    criterion=ActivationTaylor(),
    allocation=Global(),
    summary="Removes the feature maps whose activation times gradient is smallest, layers compared after L2 normalisation.",
    papers=(
        Paper(
            "Molchanov, Tyree, Karras, Aila, Kautz",
            "Pruning Convolutional Neural Networks for Resource Efficient Inference",
            2017,
        ),
    ),
)

taylor_activation_iterative = taylor_activation.but(
    schedule=Rounds(n=10, spacing="linear"),
    recovery=FineTune(epochs=1, lr=1e-4),
    summary="Taylor scores of feature maps, taken anew in ten rounds with an epoch of fine-tuning after each.",
)

taylor_iterative = taylor.but(
    allocation=Global(),
    schedule=Rounds(n=10, spacing="linear"),
    recovery=FineTune(epochs=1, lr=1e-4),
    summary="Taylor scores of channels, compared as they are, taken anew in ten rounds with an epoch of fine-tuning after each.",
)

fisher = taylor.but(
    criterion=Fisher(),
    allocation=Global(),
    summary="Removes the channels whose removal costs least to second order, with the Fisher diagonal for the curvature.",
    papers=(Paper("LeCun, Denker, Solla", "Optimal Brain Damage", 1989),),
)

taylor_second = taylor.but(
    criterion=Taylor(order=2),
    summary="Removes the channels whose removal costs least to second order, with the Hessian times the weights of all.",
)

sosp = taylor.but(
    criterion=Sosp(),
    allocation=Global(),
    summary="Removes the channels that the loss misses least when all that could go move together, across layers.",
    papers=(
        Paper(
            "Nonnenmacher, Pfeil, Steinwart, Reeb",
            "SOSP: Efficiently Capturing Global Correlations by Second-Order Structured Pruning",
            2022,
        ),
    ),
)

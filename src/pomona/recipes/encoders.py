"""Heads and neurons of trained encoders go within minutes, without training: searched for, exchanged, tuned."""

from pomona.allocations.two_prices import TwoPrices
from pomona.criteria.taylor import Taylor
from pomona.recovery.tune_masks import TuneMasks
from pomona.schedules.once import Once
from pomona.solvers.rearrange import Rearrange
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

fast_posttrain = Recipe(
    Axes(("head", "kv-group", "neuron"), shared=True),
    Taylor(roles=("in",)),
    TwoPrices(),
    Once(),
    solver=Rearrange(),
    recovery=TuneMasks(),
    summary="Buys heads and neurons by Fisher information, exchanges those that cancel, and tunes what the others weigh.",
    papers=(
        Paper(
            "Kwon, Kim, Mahoney, Hassoun, Keutzer, Gholami",
            "A Fast Post-Training Pruning Framework for Transformers",
            2022,
        ),
    ),
)

"""Iterative magnitude pruning with rewinding: to the start, to an early step, or of the learning rate alone."""

from pomona.allocations.everywhere import Global
from pomona.criteria.magnitude import Magnitude
from pomona.recovery.retrain import Retrain
from pomona.schedules.rounds import Rounds
from pomona.structures.weights import Weights
from pomona.vocabulary import Paper, Recipe

lottery = Recipe(
    Weights(),
    Magnitude(),
    Global(),
    Rounds(n=5, spacing="geometric", first_train=True),
    recovery=Retrain(epochs=10),
    at="init",
    summary="Train, cut the smallest weights, put the survivors back to where they started, train again; round after round.",
    papers=(Paper("Frankle and Carbin", "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", 2019),),
)

late_rewinding = lottery.but(
    recovery=Retrain(epochs=10, start="step 100"),
    summary="Lottery tickets for larger nets: survivors go back to an early step of training, not to the very start.",
    papers=(Paper("Frankle, Dziugaite, Roy, Carbin", "Stabilizing the Lottery Ticket Hypothesis", 2019),),
)

learning_rate_rewinding = lottery.but(
    schedule=Rounds(n=5, spacing="geometric"),
    recovery=Retrain(epochs=10, start="here"),
    at="trained",
    summary="Cut the smallest weights, keep the others and replay the whole learning-rate schedule; round after round.",
    papers=(Paper("Renda, Frankle, Carbin", "Comparing Rewinding and Fine-tuning in Neural Network Pruning", 2020),),
)

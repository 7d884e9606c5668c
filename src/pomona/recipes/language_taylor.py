"""Heads and neurons of language models go, judged by the loss on a few samples of text; train what is left with `lora`."""

from pomona.allocations.spared_ends import SparedEnds
from pomona.criteria.grouped import Grouped
from pomona.criteria.loss_change import LossChange
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Paper, Recipe

llm_pruner = Recipe(
    Axes(("head", "kv-group", "neuron"), shared=True),
    Grouped(LossChange(), combine="sum", roles=("out", "in", "scale")),
    SparedEnds(),
    Once(),
    summary="Removes heads and neurons whose weights, in all tensors of the group, move the loss least; the ends stay whole.",
    papers=(Paper("Ma, Fang, Wang", "LLM-Pruner: On the Structural Pruning of Large Language Models", 2023),),
)

llm_pruner_mixed = llm_pruner.but(
    criterion=Grouped(LossChange("mixed"), combine="sum", roles=("out", "in", "scale")),
    summary="LLM-Pruner with the curvature: half the Fisher diagonal times the square of each weight is taken off.",
)

"""Sensitivity: how much a neuron can matter whatever comes in, from weights alone (Mussay et al., Coresets, 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch

from pomona.statistics.sensitivity import Activation, Shared, sensitivities
from pomona.vocabulary import InputError, Scores, Statistic, View


@dataclass(frozen=True)
class Sensitivity:
    """The probability with which a coreset draws a unit: its largest outgoing weight times phi(beta * norm of what writes it).

    By itself it ranks: the top stay. With the solver `CoresetSample` it is drawn from. phi is the activation, not negative
    and rising; for ReLU `beta` falls out. Norms between writers and readers are not looked at. With `shared="sum"` all of
    a unit's readers count, not only the largest weight.
    """

    beta: float = 1.0
    activation: Activation = "relu"
    shared: Shared = "max"
    needs: ClassVar[tuple[Statistic, ...]] = ()

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation) or self.shared not in get_args(Shared) or not self.beta > 0:
            raise InputError("Sensitivity is of 'relu' or 'sigmoid', shared by 'max' or 'sum', with a positive beta.")

    def score(self, view: View) -> Scores:
        """Probabilities that sum to 1 over the living; equal where nothing matters."""
        worth = sensitivities(view, self.beta, self.activation, self.shared)
        return Scores((worth / worth.sum().clamp_min(torch.finfo(worth.dtype).tiny)).float())

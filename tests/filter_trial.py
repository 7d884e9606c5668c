"""A small convolutional net on handwritten digits, and what is left of it when half its channels went by some criterion."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import digits
import pomona
from pomona.allocations.uniform import Uniform
from pomona.schedules.once import Once
from pomona.structures.axes import Axes
from pomona.vocabulary import Criterion, Recipe, Scores, View


@dataclass(frozen=True)
class Reversed:
    """The other way round: what a criterion holds dear goes first."""

    criterion: Criterion

    @property
    def needs(self):
        return self.criterion.needs

    def score(self, view: View) -> Scores:
        found = self.criterion.score(view)
        return Scores(-found.value, None if found.order is None else -found.order)


class Cnn(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.fc = nn.Linear(16 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        return self.fc(nn.functional.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2).flatten(1))


def train(model: nn.Module, steps: int, seed: int, lr: float = 0.05) -> nn.Module:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for number in range(steps):
        x, y = digits.batch(number, seed)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


@cache
def trained(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return train(Cnn(), 120, seed)


def calibration(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [digits.batch(number, 50 + seed) for number in range(2)]


def left(criterion: Criterion, seed: int, ratio: str = "0.25x", steps: int = 40) -> float:
    """Test accuracy after the cut and a short training."""
    recipe = Recipe(Axes(("channel",)), criterion, Uniform(), Once())
    model, data = copy.deepcopy(trained(seed)), calibration(seed)
    out = pomona.prune(model, data[0][0][:2], method=recipe, goal=f"params={ratio}", data=data, loss=cross_entropy, latency=False)
    return digits.accuracy(train(out.model, steps, seed + 7, lr=0.02))

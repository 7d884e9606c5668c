"""Story one: a convolutional net trained here, cut by channels to 0.35 of its MACs, recovered, faster."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from pomona.data import load_data
from pomona.face.prune import prune
from pomona.face.result import Result
from pomona.models import Source
from pomona.recovery.fine_tune import FineTune
from pomona.training.descent import Descent
from pomona.training.fit import fit
from pomona.training.objectives import supervised
from pomona.vocabulary import Limits, Progress


def net(classes: int = 10) -> nn.Sequential:
    """Five 3x3 convolutions with batch norm, 28 x 28 in: small enough to train in minutes, wide enough to be cut."""

    def stage(wide: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(wide, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *stage(1, 24),
        nn.MaxPool2d(2),
        *stage(24, 48),
        *stage(48, 48),
        nn.MaxPool2d(2),
        *stage(48, 96),
        *stage(96, 96),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, classes),
    )


def garments(seed: int, progress: Progress, epochs: int = 3) -> dict[str, Result]:
    """Train on the full Fashion-MNIST, prune by what a channel does to the loss, fine-tune, and measure on the test set."""
    data = load_data("fashion-mnist", batch=128, seed=seed)
    for note in data.notes:
        progress.note(note)
    torch.manual_seed(seed)
    model = net(len(data.classes))
    fit(
        model,
        data.train,
        supervised(F.cross_entropy),
        Descent(lr=3e-3),
        epochs=epochs,
        keep="last",
        seed=seed,
        progress=progress,
        name="training the dense net",
    )
    first = next(iter(data.test))[0][:64]
    result = prune(
        model.eval(),
        first,
        method="taylor",
        goal="macs=0.35x",
        limits=Limits(multiple=8),
        data=data,
        loss=F.cross_entropy,
        recover=FineTune(epochs=2, lr=2e-3),
        seed=seed,
        latency={"batch": 64},
        progress=progress,
        source=Source("function", "pomona.face.demo.garments:net"),
        command="pomona demo",
    )
    return {"fashion-channels": result}

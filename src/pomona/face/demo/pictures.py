"""Story two: a pretrained picture classifier, cut by channels, taught by its dense self on unlabelled photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pomona.data import Data, load_data
from pomona.data.cache import Unreachable
from pomona.data.stamps import stamps
from pomona.evaluate import evaluate
from pomona.face.prune import prune
from pomona.face.result import Result
from pomona.models import load_model
from pomona.recovery.distil import Distil
from pomona.vocabulary import Limits, Progress


def pictures(seed: int, progress: Progress) -> dict[str, Result]:
    """EfficientNet-Lite0 to 0.8 of its MACs; measured by agreement with the dense model on photographs it was not taught on.

    Nobody labelled the photographs: what the dense model sees in them stands for the label when channels are scored.
    Their pixels are unlike ImageNet's (things on white), so the batch norms keep the statistics that they have. Widths stay
    multiples of eight: what is left of a vector register is not faster.
    """
    loaded = load_model("efficientnet-lite0")
    photos = _photos(loaded.pixels, seed, progress)
    assert loaded.example is not None
    args, kwargs = loaded.example
    result = prune(
        loaded.model,
        args,
        kwargs,
        method="taylor",
        goal="macs=0.8x",
        limits=Limits(multiple=8),
        data=_as_seen(loaded.model, photos.train, progress),
        calibrate=10,
        loss=F.cross_entropy,
        recover=Distil(epochs=3, hard=0.0, lr=3e-5, norms="kept"),
        test=lambda model: evaluate(model, photos.test, "agreement", dense=loaded.model),
        seed=seed,
        latency={"batch": 8},
        progress=progress,
        source=loaded.source,
        command="pomona demo",
    )
    return {"efficientnet-lite0-channels": result}


def _photos(pixels: Mapping[str, Any] | None, seed: int, progress: Progress) -> Data:
    try:
        return stamps(pixels, seed=seed)
    except Unreachable as reason:
        progress.note(f"The photographs could not be fetched ({reason}); twenty pictures that foolbox ships stand in for them.")
        return load_data("foolbox-imagenet", pixels=pixels, batch=2)  # many small batches: Taylor averages over them


@torch.no_grad()
def _as_seen(model: nn.Module, photos: Any, progress: Progress) -> list[tuple[Tensor, Tensor]]:
    """(photographs, the class that the dense model gives them)."""
    seen = []
    with progress.stage("looking at the photographs", len(photos)) as stage:
        for batch in photos:
            x = batch if isinstance(batch, Tensor) else batch[0]
            seen.append((x, model(x).argmax(1)))
            stage.advance()
    return seen

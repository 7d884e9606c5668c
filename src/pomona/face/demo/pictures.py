"""Story two: a pretrained picture classifier, cut by channels, taught by its dense self on unlabelled photographs."""

from __future__ import annotations

from pomona.data import Data, load_data
from pomona.data.cache import Unreachable
from pomona.data.stamps import stamps
from pomona.evaluate import evaluate
from pomona.face.prune import prune
from pomona.face.result import Result
from pomona.models import load_model
from pomona.recovery.distil import Distil
from pomona.vocabulary import Progress


def pictures(seed: int, progress: Progress) -> dict[str, Result]:
    """EfficientNet-Lite0 to 0.8 of its MACs; measured by agreement with the dense model on photographs it was not taught on."""
    loaded = load_model("efficientnet-lite0")
    photos = _photos(loaded.pixels, seed, progress)
    assert loaded.example is not None
    result = prune(
        loaded.model,
        *loaded.example,
        method="l1-filters",
        goal="macs=0.8x",
        data=photos.train,
        recover=Distil(epochs=2, hard=0.0, lr=3e-4),
        test=lambda model: evaluate(model, photos.test, "agreement", dense=loaded.model),
        seed=seed,
        latency={"batch": 8},
        progress=progress,
        source=loaded.source,
        command="pomona demo",
    )
    return {"efficientnet-lite0-channels": result}


def _photos(pixels: object, seed: int, progress: Progress) -> Data:
    try:
        return stamps(pixels, seed=seed)  # type: ignore[arg-type]
    except Unreachable as reason:
        progress.note(f"The photographs could not be fetched ({reason}); twenty pictures that foolbox ships stand in for them.")
        return load_data("foolbox-imagenet", pixels=pixels)  # type: ignore[arg-type]

"""Story three: a sentence encoder, pruned without any training: 2:4, and by heads and neurons."""

from __future__ import annotations

from typing import Any

from pomona.data import load_data
from pomona.face.prune import prune
from pomona.face.result import Result
from pomona.models import example_inputs, load_model
from pomona.vocabulary import Progress


def sentences(seed: int, progress: Progress) -> dict[str, Result]:
    """MiniLM against what people said of 1,225 pairs of documents; calibrated on other documents."""
    loaded = load_model("minilm")
    data = load_data("lee", tokenizer=loaded.tokenizer, seed=seed)
    args, kwargs = example_inputs(loaded.model, loaded)
    few = [batch for batch, _ in zip(data.train, range(8), strict=False)]
    common: dict[str, Any] = {
        "data": few,
        "test": data,
        "metric": "pearson",
        "seed": seed,
        "latency": {"batch": 8},
        "progress": progress,
        "source": loaded.source,
        "command": "pomona demo",
    }
    return {
        "minilm-2-4": prune(loaded.model, args, kwargs, method="wanda", structure="2:4", **common),
        "minilm-heads-neurons": prune(
            loaded.model, args, kwargs, method="mean-activation", structure="heads+neurons", goal="params=0.9x", **common
        ),
    }

"""Names to models with example inputs: `timm:MODULE`, `encoders:MODULE`, `transformers:NAME`, `networks:NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from benchmarks.coverage.families import families
from benchmarks.coverage.networks import networks
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph import Release
from pomona.graph.export import inputs_of
from pomona.models import load_model

# Families of timm whose smallest variant has no head: what they return is their stream, and as wide as it.
ENCODERS = ("deepseek_vit", "eva", "gemma4_vit", "hieradet_sam2", "qwen3_vit")


@dataclass(frozen=True, eq=False)
class Case:
    """A model in evaluation mode and example inputs, one example in each; `batch` is the length of batched dimensions.

    `release` is what may change although users of the model see it.
    """

    model: nn.Module
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    batch: int = 1
    release: Release | None = None

    def batched(self, x: Any) -> bool:
        """Whether a tensor of the inputs has the examples along its first dimension."""
        return isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == self.batch


def case(name: str) -> Case:
    """The model of this name, with random weights (seed 0)."""
    kind, _, rest = name.partition(":")
    return KINDS[kind](rest)


def names() -> list[str]:
    """Every model of the table, in its order."""
    several = {"timm": families(), "encoders": ENCODERS, "transformers": _zoo(), "networks": networks()}
    return [f"{kind}:{name}" for kind, known in several.items() for name in known]


def _timm(module: str) -> Case:
    loaded = load_model(f"timm:{families()[module]}")
    return Case(loaded.model, loaded.example)


def _encoder(module: str) -> Case:
    return replace(_timm(module), release="output")


def _transformers(name: str) -> Case:
    torch.manual_seed(0)
    model, inputs = _zoo()[name]()
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    pair = ((), dict(inputs)) if isinstance(inputs, dict) else (tuple(inputs), {})
    tensors = [x for x in (*pair[0], *pair[1].values()) if isinstance(x, Tensor)]
    return Case(model.eval(), pair, tensors[0].shape[0])


def _network(name: str) -> Case:
    torch.manual_seed(0)
    make, given = networks()[name]
    inputs = inputs_of(given)
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.dim()]
    return Case(make().eval(), inputs, tensors[0].shape[0])


def _zoo() -> dict[str, Callable[[], tuple[nn.Module, Any]]]:
    from benchmarks.coverage.transformers_further import FURTHER
    from benchmarks.coverage.transformers_zoo import ZOO

    return {**ZOO, **FURTHER}


KINDS: dict[str, Callable[[str], Case]] = {
    "timm": _timm,
    "encoders": _encoder,
    "transformers": _transformers,
    "networks": _network,
}

"""A plain forward pass that looks at the last token of every sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pomona.probes.forward import Forward
from pomona.vocabulary import Batch, Loss, Requirement, Seen, Watch


@dataclass(frozen=True)
class LastToken:
    """What blocks do to the last token that is no padding, (examples, features): the one that has seen all others.

    Tensors that are no sequences, (examples, features) and feature maps, are whole.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data"})
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Both ends of every block at that token; inputs of weights with all tokens."""
        seen = Forward(whole=True).run(model, batch, loss, watch)
        ends = {name: (_last(a, batch.visible), _last(b, batch.visible)) for name, (a, b) in seen.blocks.items()}
        return replace(seen, blocks=ends)


def _last(x: Tensor, mask: Any) -> Tensor:
    if x.dim() != 3:
        return x
    if not isinstance(mask, Tensor) or mask.shape != x.shape[:2]:
        return x[:, -1]
    places = torch.arange(1, x.shape[1] + 1, device=x.device) * mask.bool().to(x.device)
    return x[torch.arange(len(x), device=x.device), places.argmax(1)]

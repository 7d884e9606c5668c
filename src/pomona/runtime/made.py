"""An op with made-up inputs: what to call, its name in the table of times, and the tensors to call it with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_SPREAD = 8 << 20  # bytes of inputs that an op is timed on in turn: more than the caches that a core has for itself
_COPIES, _HELD = 32, 4


@dataclass(frozen=True)
class Shape:
    """A tensor that an op takes. `order` lists its dimensions as they lie in memory, the slowest first."""

    lengths: tuple[int, ...]
    dtype: torch.dtype
    order: tuple[int, ...]

    def __str__(self) -> str:
        lies = "" if self.order == tuple(range(len(self.order))) else "@" + "".join(map(str, self.order))
        return f"{str(self.dtype).removeprefix('torch.')}[{','.join(map(str, self.lengths))}]{lies}"

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return prod(self.lengths) * self.dtype.itemsize

    def make(self, generator: torch.Generator) -> Tensor:
        """Normal values; zeros for integers, so that they are valid indices; true for masks."""
        lies = tuple(self.lengths[d] for d in self.order)
        if self.dtype.is_floating_point:
            flat = torch.randn(lies, generator=generator).to(self.dtype)
        else:
            flat = torch.full(lies, self.dtype == torch.bool, dtype=self.dtype)
        return flat.permute([self.order.index(d) for d in range(len(self.order))])


@dataclass(frozen=True, eq=False)
class Made:
    """`target(*args, **kwargs)` with a `Shape` in the place of each tensor."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The op and everything that its time depends on, as text: equal names take equal times."""
        words = [*map(_spell, self.args), *(f"{key}={_spell(value)}" for key, value in self.kwargs.items() if value is not None)]
        return f"{self.target}({','.join(words)})"

    @property
    def bytes(self) -> int:
        """Of all tensors that go in."""
        return sum(leaf.bytes for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Shape))

    def ready(self) -> Callable[[], Any]:
        """The call, on tensors made beforehand: each time on others, so that it finds caches as it would within a model.

        There, weights were last read a pass ago, and results are not written where the last one has just been freed.
        """
        generator = torch.Generator().manual_seed(0)
        copies = max(1, min(_COPIES, _SPREAD // max(1, self.bytes)))
        first = pytree.tree_map_only(Shape, lambda shape: shape.make(generator), (self.args, dict(self.kwargs)))
        others = [pytree.tree_map_only(Tensor, Tensor.clone, first) for _ in range(copies - 1)]
        inputs = cycle([first, *others])
        results: deque[Any] = deque(maxlen=_HELD)

        def call() -> None:
            args, kwargs = next(inputs)
            results.append(self.target(*args, **kwargs))

        return call


def _spell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_spell, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

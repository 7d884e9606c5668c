"""What one forward pass does, counted while it runs: operations, multiply-accumulates, weights read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pomona.native.living import living, sparsity_of

_DEEP = 1000  # levels of modules that are counted one by one


@dataclass(frozen=True)
class Work:
    """`ops` are tensor operations that reach a kernel, `zeros` the share of the parameters' values that are 0."""

    ops: int
    macs: int
    params: int
    zeros: float
    weight_bytes: int


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Views cost no kernel, but they do cost a trip through the dispatcher, which is what overhead is made of.
        self.count += 1
        return func(*args, **(kwargs or {}))


def work_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
    """Count one forward pass of the model on these inputs."""
    call: Callable[[], Any] = lambda: model(*args, **kwargs)  # noqa: E731 (run twice, under different counters)
    with FlopCounterMode(display=False) as flops:
        call()
    with _Operations() as operations:
        call()
    parameters = list(model.parameters())
    params = sum(p.numel() for p in parameters)
    zeros = params - sum(living(p) for p in parameters)
    weight_bytes = sum(p.numel() * p.element_size() for p in parameters)
    return Work(operations.count, flops.get_total_flops() // 2, params, zeros / max(1, params), weight_bytes)


def operations_left(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Operations (two a product) of one forward pass without the products with zeros in weights of Linear and Conv2d layers."""
    with FlopCounterMode(display=False, depth=_DEEP) as flops:
        model(*args, **kwargs)
    counts, root = flops.get_flop_counts(), type(model).__name__
    spared = 0.0
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            spared += sparsity_of(layer.weight) * sum(counts.get(f"{root}.{name}" if name else root, {}).values())
    return float(flops.get_total_flops() - spared)

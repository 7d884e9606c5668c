"""Which layers are to keep more bits than was asked for: those whose own outputs rounded values move too far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pomona.face.accelerated import Layer
from pomona.runtime.sparse.choose import packed_layer
from pomona.vocabulary import evaluating

FINER: Mapping[str, str] = {"int8": "bf16", "bf16": "f32"}
# Of a layer's output. bfloat16 is off by 0.003, int8 by 0.02, and by 0.1 to 1 where a few inputs outweigh the rest.
_ALLOWED = 0.05


def own_errors(model: nn.Module, layers: Sequence[Layer], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, float]:
    """How far each layer that is packed with rounded values is off on what it reads in one pass of the model, by name.

    Relative in the Euclidean norm, the worst of a layer's calls. One layer is packed at a time.
    """
    found: dict[str, float] = {}
    modules = dict(model.named_modules())

    def listen(layer: Layer) -> Any:
        def hook(module: nn.Module, given: tuple[Any, ...], right: Tensor) -> None:
            assert layer.candidate is not None
            size, off = float(right.norm()), float((packed_layer(module, layer.candidate)(*given) - right).norm())
            found[layer.name] = max(found.get(layer.name, 0.0), off / size if size else off)

        return hook  # fmt: skip

    rounded = [each for each in layers if each.candidate is not None and each.candidate.values in FINER]
    if not rounded:
        return found
    hooks = [modules[each.name].register_forward_hook(listen(each)) for each in rounded]
    try:
        with evaluating(model), torch.no_grad():
            model(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def ever_finer(off: Mapping[str, float]) -> Iterator[set[str]]:
    """The layers that are to keep more bits, by name, until all do.

    Those that are off by more than 5 %; then also the rougher half of the others, then of the rest.

    >>> [sorted(names) for names in ever_finer({"a": 0.01, "b": 0.02, "c": 0.5})]
    [['c'], ['b', 'c'], ['a', 'b', 'c']]
    """
    calm = sorted((name for name, error in off.items() if error <= _ALLOWED), key=off.__getitem__)
    yield off.keys() - calm
    while calm:
        calm = calm[: len(calm) // 2]
        yield off.keys() - calm

"""A sparse model on a GPU: every linear layer as it measures fastest there, dense included."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pomona.face.accelerated_gpu import AcceleratedGpu, GpuLayer, sentence
from pomona.face.layer_calls import Call, calls_of, check_comparable, distance, irreplaceable
from pomona.native.living import sparsity_of
from pomona.runtime.gpu.choose import GAIN, choose, packed
from pomona.runtime.gpu.device import Gpu, gpu_for
from pomona.runtime.inputs import inputs_for
from pomona.runtime.sparse.reading import reading_watched
from pomona.vocabulary import InputError, Progress, ProofError, Silent, evaluating, set_training

_ALLOWED = 0.03  # of the outputs in the Euclidean norm: what sums in another order may do to a model in a half type
_KINDS = (nn.Linear,)
_NO_FASTER = (
    "The whole pass is no faster: where launching takes longer than computing, a CUDA graph helps "
    '(torch.compile, mode="reduce-overhead").'
)


def accelerate_gpu(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str = "gpu-sparse",
    batch: int | None = None,
    values: str = "f32",
    latency: bool = True,
    progress: Progress | None = None,
    gpu: Gpu | None = None,
) -> AcceleratedGpu:
    """A copy of `model` on the GPU in which every Linear runs sparse that is faster so, compared with its dense weights there.

    The target "gpu-2:4" takes 2:4 on sparse tensor cores, "gpu-sparse" also single weights, for up to 16 rows at a time, by a
    Triton kernel. Both need bfloat16 or float16: `values="bf16"` makes the whole copy bfloat16, but for buffers that no file
    holds, such as rotary frequencies; "f32" leaves types as they are. `args` and `kwargs` are example inputs, repeated or cut to
    `batch`; a layer given more rows later is right, but not as fast as measured. `latency` times a pass of both models.

    The copy is frozen, and its sparse layers are in no state dict: save the model that was given. It is untouched. `gpu` is for
    whoever measures in another way (None: the current CUDA device).

    Raises InputError for wishes and inputs that do not fit, and where there is no such GPU; ProofError where outputs move more
    than rounding explains.
    """
    if values not in ("f32", "bf16"):
        raise InputError(f"On a GPU values are f32 (types as they are) or bf16, not {values!r}.")
    gpu, progress = gpu or gpu_for(target), progress or Silent()
    given, named = inputs_for(model, args, kwargs, batch)
    dense = _moved(model, gpu.device, values == "bf16")
    given, named = tree_map(lambda v: _input(v, gpu.device, values == "bf16"), (given, named))
    seen = calls_of(dense, given, named, _KINDS)
    layers = _chosen(dense, seen, target, gpu, progress)
    fast, layers = _rebuilt(dense, layers, gpu, given, named)
    error, _ = distance(dense, fast, given, named)
    if error > _ALLOWED:
        check_comparable(dense, given, named, error, _ALLOWED)
        raise ProofError(f"The sparse kernels are wrong here: the outputs are off by {error:.1e} of their size.")
    found = AcceleratedGpu(fast, layers, error, target, gpu.name, sentence(layers))
    if not latency or not any(layer.way for layer in layers):
        return found
    with evaluating(dense, fast):
        took = gpu.measure({"before": lambda: dense(*given, **named), "after": lambda: fast(*given, **named)})
    told = found.told if took["after"] <= GAIN * took["before"] else f"{found.told} {_NO_FASTER}"
    return replace(found, before_ms=1e3 * took["before"], after_ms=1e3 * took["after"], told=told)


def _moved(model: nn.Module, device: torch.device, half: bool) -> nn.Module:
    """A copy on the device, in evaluation mode and frozen."""
    moved = deepcopy(model).to(device).requires_grad_(False)
    set_training(moved, False)
    for module in moved.modules() if half else ():
        held = [*module._parameters.items(), *((n, b) for n, b in module._buffers.items() if _is_saved(module, n))]
        for _, tensor in held:
            if tensor is not None and tensor.dtype == torch.float32:
                tensor.data = tensor.data.bfloat16()
    return moved


def _is_saved(module: nn.Module, buffer: str) -> bool:
    return buffer not in module._non_persistent_buffers_set


def _input(value: Any, device: torch.device, half: bool) -> Any:
    if not isinstance(value, Tensor):
        return value
    moved = value.to(device)
    return moved.bfloat16() if half and moved.dtype == torch.float32 else moved


def _chosen(
    dense: nn.Module, seen: Mapping[str, Call], target: str, gpu: Gpu, progress: Progress
) -> tuple[GpuLayer, ...]:  # fmt: skip
    known = dict(dense.named_modules())
    found = []
    with progress.stage("choosing kernels", len(seen)) as stage, torch.inference_mode():
        for name, call in seen.items():
            found.append(_layer(name, known[name], call, target, gpu))
            stage.advance(layer=name)
    return tuple(found)


def _layer(name: str, layer: nn.Module, call: Call, target: str, gpu: Gpu) -> GpuLayer:
    assert isinstance(layer, nn.Linear)
    rows = call.x.shape[:-1].numel() if call.x is not None else 0
    told = GpuLayer(name, tuple(layer.weight.shape), sparsity_of(layer.weight), rows, call.times)
    if why := irreplaceable(layer, call, _KINDS):
        return replace(told, reason=why)
    choice = choose(layer, rows, target, gpu)
    return replace(told, way=choice.way, dense_ms=choice.dense_ms, best_ms=choice.best_ms, reason=choice.reason)


def _rebuilt(
    dense: nn.Module, layers: tuple[GpuLayer, ...], gpu: Gpu, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[nn.Module, tuple[GpuLayer, ...]]:
    """The copy, in which no layer is packed whose weight is read by code around it. What stays dense is shared, not copied."""
    known = dict(dense.named_modules())
    made: dict[str, nn.Module] = {}
    for each in layers:
        layer = known[each.name]
        if each.way is not None and isinstance(layer, nn.Linear):
            made[each.name] = packed(layer, [each.way], gpu)[each.way]
    while True:
        memo: dict[int, Any] = {id(t): t for t in (*dense.parameters(), *dense.buffers())}
        memo |= {id(known[each.name]): made[each.name] for each in layers if each.way}
        fast = deepcopy(dense, memo)
        with reading_watched() as readers, torch.no_grad():
            fast(*args, **kwargs)
        read = {name for name, module in made.items() if any(module is reader for reader in readers)}
        if not read:
            return fast, layers
        why = "its weight is read by the code around it"
        layers = tuple(replace(each, way=None, reason=why) if each.name in read else each for each in layers)
        made = {name: module for name, module in made.items() if name not in read}

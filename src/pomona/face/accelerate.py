"""A sparse model on sparse kernels: every layer in the layout that measures fastest on this machine, dense included."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pomona.face.accelerated import Accelerated, Layer, sentence
from pomona.face.layer_calls import Call, calls_of, check_comparable, distance, irreplaceable
from pomona.face.rounding import FINER, ever_finer, own_errors
from pomona.native import library
from pomona.native.library import threads_of
from pomona.native.living import sparsity_of
from pomona.runtime import measure_latency
from pomona.runtime.inputs import inputs_for
from pomona.runtime.machine import caches
from pomona.runtime.sparse.candidates import VALUES, Candidate
from pomona.runtime.sparse.choose import choose, geometry_of, packed_layer
from pomona.runtime.sparse.fuse import Fused, fuse
from pomona.runtime.sparse.reading import reading_watched
from pomona.runtime.sparse.table import Table
from pomona.runtime.sparse.turned import as_linears, not_saved_by_transformers
from pomona.vocabulary import InputError, Progress, ProofError, Silent, evaluating

# How far outputs may be off, in the Euclidean norm of the whole. float32 sums in another order; the others are rounded weights.
_ALLOWED = {"f32": 1e-4, "bf16": 0.03, "int8": 0.15}
_HALF = 0.03  # for models in bfloat16 or float16, whose own sums are that rough
_KINDS = (nn.Linear, nn.Conv2d)


def accelerate(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    batch: int | None = None,
    threads: int | None = None,
    values: str = "f32",
    fused: bool = True,
    latency: bool | Mapping[str, Any] = True,
    progress: Progress | None = None,
    before: nn.Module | None = None,
) -> Accelerated:
    """A copy of `model` in which every Linear and Conv2d is packed that is faster so, compared with it and timed beside it.

    `args` and `kwargs` are example inputs, repeated or cut to `batch`; with them and `threads` (None: torch's number) everything
    is measured, once a machine and kind of layer. `values` says how weights may be stored: "f32" is exact, "bf16" and "int8"
    round them (int8 the activations, too) where that is faster and moves the layer's own output on these inputs by less than 5 %,
    in so many layers that the model's outputs are off by less than 3 % (bf16) or 15 % (int8). A Linear without zeros is packed,
    too, where torch's product is slower than ours. Packed layers are frozen; where nothing is faster packed, the copy is as
    dense as the model, and `told` says what would pay.

    With `fused`, packed convolutions take BatchNorm, residual additions and ReLU along wherever the traced program shows that
    nobody else reads what is in between. The copy is then a torch.fx.GraphModule for inputs of these shapes, with any batch, in
    evaluation mode for good and without the methods of the model's class, and no such module can be pickled; where nothing can
    be fused it is the model's own class, as it is with `fused=False`. GPT-2's `Conv1D` layers are nn.Linear in it.

    `latency` may hold `pairs` and `seconds`, or be False; it
    compares with `before` (None: the model itself).

    The given model is untouched. Raises InputError for wishes and inputs that do not fit, and where rounded weights move the
    outputs too far; ProofError where exact ones do.

    >>> import pomona, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> fast = pomona.accelerate(net, torch.randn(1, 3, 8, 8), latency=False)
    >>> fast.told
    'Nothing is packed: no layer has zeros to leave out. Prune single weights or blocks first (--structure weights, block:8x1).'
    """
    if values not in VALUES:
        raise InputError(f"Values are {', '.join(VALUES)}, not {values!r}.")
    progress = progress or Silent()
    given, named = inputs_for(model, args, kwargs, batch)
    model = as_linears(model)
    seen = calls_of(model, given, named, _KINDS)
    table = Table.of(threads_of(threads))
    with table.measuring():
        chosen = _chosen(model, seen, values, table, progress)
    for finer in ever_finer(own_errors(model, chosen, given, named)):
        with table.measuring():
            layers = _with_more_bits(model, chosen, finer, seen, table)
        fast, layers = _rebuilt(model, layers, given, named)
        whole = fusion(model, {layer.name: layer.candidate for layer in layers if layer.candidate}, given, named, fused)
        fast = whole.model or fast
        error, allowed = _error(model, fast, given, named, values)
        if error <= allowed:
            break
    else:
        check_comparable(model, given, named, error, allowed)
        raise _refused(error, allowed, values)
    for note in table.notes:
        progress.note(note)
    found = Accelerated(fast, layers, error, values, table.threads, sentence(layers, values, whole), whole.ops)
    if latency is False or not found.packed:
        return found
    wish = latency if isinstance(latency, Mapping) else {}
    timed = measure_latency(before or model, fast, given, named, threads=threads, progress=progress, **wish)
    return replace(found, latency=timed)


def apply(model: nn.Module, chosen: Mapping[str, Candidate]) -> nn.Module:
    """A copy of the model with these layers packed. Raises InputError where one is not there or does not take its layout.

    A layer or a weight that stands at several places is packed once, and stands there again.
    """
    model = as_linears(model)
    known = dict(model.named_modules(remove_duplicate=False))
    made: dict[tuple[Any, ...], Any] = {}  # by weight, layout and geometry
    replaced: dict[int, Any] = {}
    for name, candidate in chosen.items():
        layer = known.get(name)
        if type(layer) not in _KINDS:
            raise InputError(f"The model has no Linear or Conv2d of the name {name!r} that could be packed.")
        assert layer is not None
        if id(layer) in replaced:
            continue
        packed: Any = packed_layer(layer, candidate)
        replaced[id(layer)] = packed
        packed.packed = made.setdefault((id(layer.weight), candidate, *packed.packed.about[4]), packed.packed)
    fast = deepcopy(model, replaced)  # which takes those for copies that are made already, wherever the model holds them
    return not_saved_by_transformers(fast) if replaced else fast


def fusion(
    model: nn.Module, chosen: Mapping[str, Candidate], args: tuple[Any, ...], kwargs: Mapping[str, Any], wanted: bool = True
) -> Fused:
    """What `fuse` gives where it is wanted and a convolution is packed; otherwise nothing is fused."""
    known = dict(model.named_modules(remove_duplicate=False))
    if not wanted or not any(isinstance(known.get(name), nn.Conv2d) for name in chosen):
        return Fused(None)
    return fuse(model, chosen, args, kwargs)


def _chosen(
    model: nn.Module, seen: Mapping[str, Call], values: str, table: Table, progress: Progress
) -> tuple[Layer, ...]:  # fmt: skip
    known, cold = dict(model.named_modules()), _cold(model)
    found = []
    with progress.stage("choosing layouts", len(seen)) as stage:
        for name, call in seen.items():
            found.append(_layer(name, known[name], call, values, cold, table))
            stage.advance(layer=name)
    return tuple(found)


def _with_more_bits(
    model: nn.Module, layers: tuple[Layer, ...], names: set[str], seen: Mapping[str, Call], table: Table
) -> tuple[Layer, ...]:
    """These layers chosen anew, among values that are rounded less."""
    known, cold = dict(model.named_modules()), _cold(model)
    return tuple(
        _layer(each.name, known[each.name], seen[each.name], FINER[each.candidate.values], cold, table)
        if each.name in names and each.candidate
        else each
        for each in layers
    )


def _cold(model: nn.Module) -> bool:
    """Whether the weights leave the caches from call to call."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) > caches()[1]


def _layer(name: str, layer: nn.Module, call: Call, values: str, cold: bool, table: Table) -> Layer:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    kind = type(layer).__name__
    told = Layer(name, kind, tuple(weight.shape), sparsity_of(weight) if weight.device.type == "cpu" else 0.0, call.times)
    if why := _unfit(layer, call):
        return replace(told, reason=why)
    assert call.x is not None
    if library().isa is None:
        return replace(told, reason=f"there are no native kernels here: {library().reason}")
    choice = choose(layer, torch.empty_like(call.x, device="cpu"), cold, values, table)
    if not choice.tried:
        return replace(told, reason="it has too few zeros")
    told = replace(told, dense_ms=choice.dense_ms, best_ms=choice.best_ms, candidate=choice.candidate)
    return told if choice.candidate else replace(told, reason="dense is as fast")


def _unfit(layer: nn.Module, call: Call) -> str | None:
    """Why this layer cannot be packed."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if why := irreplaceable(layer, call, _KINDS):
        return why
    assert call.x is not None
    if weight.device.type != "cpu" or not weight.is_floating_point() or not call.x.is_floating_point():
        return f"its weight is {weight.dtype} on {weight.device}"
    if not bool(weight.isfinite().all()):
        return "its weight holds NaN or infinities"
    if isinstance(layer, nn.Conv2d):
        return _unfit_conv(layer, call.x)
    return None


def _unfit_conv(layer: nn.Conv2d, x: Tensor) -> str | None:
    if layer.padding_mode != "zeros":
        return f"it pads with {layer.padding_mode}"
    if layer.padding == "same" and any(d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)):
        return "its padding is not the same on both sides"
    geometry_of(layer)
    return None if x.dim() == 4 else "its input has no batch"


def _rebuilt(
    model: nn.Module, layers: tuple[Layer, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[nn.Module, tuple[Layer, ...]]:
    """The copy, in which no layer is packed whose weight is read by code around it, which would unpack it at every call."""
    while True:
        fast = apply(model, {layer.name: layer.candidate for layer in layers if layer.candidate})
        with reading_watched() as readers, evaluating(fast), torch.no_grad():
            fast(*args, **kwargs)
        read = {name for name, layer in fast.named_modules(remove_duplicate=False) if any(layer is r for r in readers)}
        if not read:
            return fast, layers
        why = "its weight is read by the code around it"
        layers = tuple(replace(each, candidate=None, reason=why) if each.name in read else each for each in layers)


def _error(
    model: nn.Module, fast: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: str
) -> tuple[float, float]:  # fmt: skip
    """How far the outputs are off, in the Euclidean norm, and how far they may be."""
    error, rough = distance(model, fast, args, kwargs)
    return error, max(_ALLOWED[values], _HALF if rough else 0.0)


def _refused(error: float, allowed: float, values: str) -> Exception:
    told = f"the outputs of the packed model are off by {error:.1e} of their size, more than the {allowed:g} allowed"
    if values == "f32":
        return ProofError(f"The sparse kernels are wrong here: {told}.")
    return InputError(f"With values {values} {told}; ask for values='f32' (--values f32).")

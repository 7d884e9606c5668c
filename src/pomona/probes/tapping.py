"""Where the products of a block can be compared with those of the dense one, and in which order they are made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.probes.recording import main
from pomona.vocabulary import Batch, evaluating, generator
from pomona.vocabulary.beside import Tap

END = ""  # of the block, among places in it
_STRAIGHT = 1e-3  # how far, relatively, a layer may be from a product with its weight
_MOVED = 1e-2  # how far a stream may move from what was added to it
_ROUNDED = 4  # roundings of a number that either may be off besides
_ROWS = 64  # tokens that are looked at

End = Literal["reads", "gives"]
_Hear: TypeAlias = Callable[[str, End, Tensor], Tensor | None]  # returns what to give instead, None for the same
_Trail: TypeAlias = dict[tuple[str, End], Tensor]  # some rows of what went by, in order


class _Enough(BaseException):
    """All that was to be heard was heard. Not an Exception: what a model's own code catches must not be this."""


@torch.no_grad()
def groups(block: nn.Module, call: Batch, weights: Sequence[str], beside: bool = True) -> list[dict[str, Tap | None]]:
    """The weights of a block in the order in which they are read; together those that read the very same tensor.

    Each with its tap: None where its layer does more than multiply with it and add, or is not called just once; such a weight
    comes with the one before it in `weights`, which are in the order of first use. `call` is what the block is called with.
    `beside` a dense block layers are called anew with what they read alone, so there is none either where they are given more;
    else no streams are looked for, which takes a pass for each product that is not simply added to what was read before.
    """
    read: dict[str, list[Tensor]] = {}
    given: dict[str, list[Tensor]] = {}
    trail: _Trail = {}

    def note(place: str, end: End, tensor: Tensor) -> None:
        (read if end == "reads" else given).setdefault(place, []).append(tensor)
        trail.setdefault((place, end), _rows(tensor))

    with _told_more(block) as told_more:
        _run(block, call, _modules(block), note)
    taps: dict[str, Tap] = {}
    for name, parameter in block.named_parameters():
        layer = name.rpartition(".")[0]
        if name in weights and not (beside and layer in told_more) and len(read.get(layer, ())) == len(given.get(layer, ())) == 1:
            x, y = read[layer][0], given[layer][0]
            if (turned := _across(parameter, x, y)) is not None:
                base, stream = (_sum(layer, trail) if beside else None) or (None, None)
                if beside and stream is None:
                    stream = _stream(block, call, layer, trail)
                taps[name] = Tap(name, layer, turned, stream, base)
    order = {layer: number for number, layer in enumerate(read)}
    found: dict[Any, dict[str, Tap | None]] = {None: {}}
    keys: dict[str, Any] = {}
    for name, tap in sorted(taps.items(), key=lambda item: order[item[1].layer]):
        x = read[tap.layer][0]
        keys[name] = x.data_ptr(), x.shape
        found.setdefault(keys[name], {})[name] = tap
    last = None
    for name in weights:
        last = keys.get(name, last)
        found[last].setdefault(name, None)
    return [group for group in found.values() if group]


@torch.no_grad()
def heard(block: nn.Module, call: Batch, taps: Mapping[str, Tap], stream: bool, through: bool = False) -> dict[str, Tensor]:
    """What there is at each tap: what its layer gives, or with `stream` the stream behind it, where there is one.

    The block runs until all of it was heard, or `through` to its end.
    """
    places: dict[tuple[str, End], list[str]] = {}
    for name, tap in taps.items():
        place: tuple[str, End] = (tap.layer, "gives")
        if stream and tap.stream is not None:
            place = (tap.stream, stream_end(tap.stream))
        places.setdefault(place, []).append(name)
    found: dict[str, Tensor] = {}

    def note(place: str, end: End, tensor: Tensor) -> None:
        for name in places.get((place, end), ()):
            found.setdefault(name, tensor.clone())  # what comes next may write to it
        if len(found) == len(taps) and not through:
            raise _Enough

    with suppress(_Enough):
        _run(block, call, {place for place, _ in places}, note)
    return found


@torch.no_grad()
def products(block: nn.Module, call: Batch, layers: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """What each of these layers reads and gives when it is first called; the block runs until all were."""
    read: dict[str, Tensor] = {}
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(place: str, end: End, tensor: Tensor) -> None:
        if end == "reads":
            read.setdefault(place, tensor)
        else:
            found.setdefault(place, (read[place], tensor))
        if len(found) == len(layers):
            raise _Enough

    with suppress(_Enough):
        _run(block, call, layers, note)
    return found


def _across(weight: Tensor, read: Tensor, given: Tensor) -> bool | None:
    """Whether a layer's weight is stored as (columns, rows); None where the layer is no product with it, up to a constant."""
    if weight.ndim != 2:
        return None
    slack = max(_STRAIGHT, _ROUNDED * torch.finfo(given.dtype).eps)
    read, given = (_rows(x).double() for x in (read, given))
    read, given = read - read[:1], given - given[:1]  # without the bias
    for turned, matrix in ((False, weight.mT.double()), (True, weight.double())):
        fits = matrix.shape == (read.shape[1], given.shape[1])
        if fits and (read @ matrix - given).norm() <= slack * given.norm():
            return turned
    return None


def _stream(block: nn.Module, call: Batch, layer: str, trail: _Trail) -> str | None:
    """Where the stream is first read that a layer's product is added to: noise is added to the product, and it moves by that."""
    own, end = trail[layer, "gives"], trail.get((END, "gives"))
    if end is None or end.shape != own.shape:
        return None
    found: list[str] = []
    added: list[Tensor] = []

    def note(place: str, end: End, tensor: Tensor) -> Tensor | None:
        if place == layer and end == "gives":
            more = torch.randn(tensor.shape, generator=generator(0)).to(tensor) * tensor.std()
            added[:] = [_rows(more)]
            return tensor + more
        before = trail.get((place, end))
        reads = end == "reads" or place == END
        if not added or not reads or before is None or before.shape != own.shape or torch.equal(before, own):
            return None
        if _moved(_rows(tensor), before, added[0]):
            found.append(place)
            raise _Enough
        return None

    with suppress(_Enough):
        _run(block, call, _modules(block), note)
    return found[0] if found else None


def _sum(layer: str, trail: _Trail) -> tuple[str, str] | None:
    """Where the stream was read before, and where it is first read with the product, if it is exactly the sum of the two."""
    own, end = trail[layer, "gives"], trail.get((END, "gives"))
    if end is None or end.shape != own.shape or not own.any():
        return None
    heard = list(trail)
    made = heard.index((layer, "gives"))
    read = [(place, trail[place, end]) for place, end in heard[:made] if end == "reads"]
    for place in (place for place, end in heard[made:] if end == stream_end(place)):
        behind = trail[place, stream_end(place)]
        base = next((name for name, rows in read if rows.shape == own.shape and torch.equal(rows + own, behind)), None)
        if base is not None:
            return base, place
    return None


def stream_end(place: str) -> End:
    """Whether the stream is what this module reads, or what the block gives."""
    return "gives" if place == END else "reads"


def _moved(after: Tensor, before: Tensor, added: Tensor) -> bool:
    """Whether rows moved by what was added, up to rounding; those that are so large that it drowns in them say nothing."""
    slack = _ROUNDED * torch.finfo(before.dtype).eps * before.double().norm(dim=1)
    size, far = added.double().norm(dim=1), (after.double() - before.double() - added.double()).norm(dim=1)
    clear = slack < size / 4
    return bool(clear.any() and (far <= _MOVED * size + slack)[clear].all())


def _rows(x: Tensor) -> Tensor:
    """Some of the rows, on their own."""
    return x.reshape(-1, x.shape[-1])[:_ROWS].clone() if x.ndim else x.clone()


def _modules(block: nn.Module) -> set[str]:
    return {END, *(name for name, _ in block.named_modules())}


def _run(block: nn.Module, call: Batch, places: Collection[str], hear: _Hear) -> None:
    """Run the block while what these modules of it read and give is heard: the first floating-point tensor of each."""
    with evaluating(block), hearing(block, places, hear):
        block(*call.args, **call.kwargs)


@contextmanager
def _told_more(block: nn.Module) -> Iterator[set[str]]:
    """The modules that are called with more than one tensor, or with that by keyword, as long as this lasts."""
    found: set[str] = set()

    def before(place: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if kwargs or len(args) != 1:
                found.add(place)

        return hook

    handles = [m.register_forward_pre_hook(before(place), with_kwargs=True) for place, m in block.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def given_tensor(given: Any) -> Tensor | None:
    """What counts of what a module gives: the first floating-point tensor."""
    return next((x for x in tree_leaves(given) if isinstance(x, Tensor) and x.is_floating_point()), None)


@contextmanager
def hearing(block: nn.Module, places: Collection[str], hear: _Hear) -> Iterator[None]:
    """Hooks that tell what these modules read and give: the first floating-point tensor; what `hear` returns is given instead."""

    def before(place: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            _, read = main(args, kwargs)
            if read is not None:
                hear(place, "reads", read)

        return hook

    def after(place: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], given: Any) -> Any:
            leaf = given_tensor(given)
            instead = None if leaf is None else hear(place, "gives", leaf)
            return instead if instead is not None and isinstance(given, Tensor) else given

        return hook

    handles = []
    for place in sorted(places):
        module = block.get_submodule(place)
        handles.append(module.register_forward_pre_hook(before(place), with_kwargs=True))
        handles.append(module.register_forward_hook(after(place)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

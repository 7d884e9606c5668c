"""Hooks that record what watched weights read and what watched blocks do, and that leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.vocabulary import Batch, InputError, Watch


def examples(batch: Batch) -> int:
    """How many examples a batch holds: the first dimension of its first tensor, in lists and dicts as well."""
    for value in tree_leaves((batch.args, dict(batch.kwargs))):
        if isinstance(value, Tensor) and value.ndim:
            return len(value)
    raise InputError("A batch holds no tensor with a batch dimension; give tensors whose first dimension counts the examples.")


def values(model: nn.Module, watch: Watch) -> dict[str, Tensor]:
    """The current values of all watched parameters, by name."""
    known = dict(model.named_parameters(remove_duplicate=False))
    return {name: known[name].detach() for name in sorted(watch.inputs | watch.grads)}


def tokens(x: Tensor, mask: Any) -> Tensor:
    """(batch, length, features) -> (tokens, features) without what `mask` (batch, length) hides; other tensors as they are."""
    if not isinstance(mask, Tensor) or x.dim() != 3 or mask.shape != x.shape[:2] or bool(mask.all()):
        return x
    return x[mask.bool()]


class Recording:
    """What the hooks saw in one pass: raw inputs by weight name (one entry a call) and both ends of blocks by name."""

    def __init__(self, watch: Watch) -> None:
        self._calls: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in watch.inputs}
        self.blocks: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """Note one call; the version tells later whether the tensor was overwritten."""
        self._calls[name].append((tensor, tensor._version))

    def calls(self, name: str) -> list[Tensor]:
        """The inputs of every call, in order; raises InputError where there is none or one was overwritten in place."""
        found = self._calls[name]
        if not found:
            raise InputError(
                f"What {name} reads cannot be recorded because its own module is never called with a floating-point tensor; "
                f"skip it, or use a criterion that needs no data."
            )
        if any(tensor._version != version for tensor, version in found):
            raise InputError(f"The input of {name} is overwritten in place after it is read; make that operation out of place.")
        return [tensor for tensor, _ in found]

    def inputs(self, names: frozenset[str]) -> dict[str, Tensor]:
        """One tensor a weight: the calls of a shared module joined along the batch."""
        return {name: join(name, self.calls(name)) for name in sorted(names)}


def join(name: str, tensors: list[Tensor]) -> Tensor:
    """Several calls of one module as one longer batch."""
    if len({t.shape[1:] for t in tensors}) > 1:
        raise InputError(f"The module of {name} is called with inputs of different shapes in one pass; skip it.")
    return tensors[0].detach() if len(tensors) == 1 else torch.cat([t.detach() for t in tensors])


@contextmanager
def recording(model: nn.Module, watch: Watch, differentiate: bool = False) -> Iterator[Recording]:
    """Hooks on the owners of watched weights and on watched blocks, removed at the end even on error.

    `differentiate`: each reader gets an alias of its input, so that the gradient there is what *this* reader sends back.
    """
    record, handles = Recording(watch), []
    modules = dict(model.named_modules(remove_duplicate=False))
    try:
        for owner, names in _owners(watch.inputs, modules).items():
            hook = _reader(record, names, differentiate)
            handles.append(modules[owner].register_forward_pre_hook(hook, with_kwargs=True))
        for block in sorted(watch.blocks):
            if block not in modules:
                raise InputError(f"The model has no block {block}; trace the model that you prune.")
            entered: list[Tensor] = []
            handles.append(modules[block].register_forward_pre_hook(_entering(entered), with_kwargs=True))
            handles.append(modules[block].register_forward_hook(_leaving(record, block, entered)))
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _owners(names: frozenset[str], modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        owner = name.rpartition(".")[0]
        if owner not in modules:
            raise InputError(f"The model has no module {owner} that could own {name}; trace the model that you prune.")
        found.setdefault(owner, []).append(name)
    return found


def _reader(record: Recording, names: list[str], differentiate: bool) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place, tensor = main(args, kwargs)
        if tensor is None:
            return None
        if differentiate:
            tensor = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
        for name in names:
            record.add(name, tensor)
        if isinstance(place, int):
            return (*args[:place], tensor, *args[place + 1 :]), kwargs
        return args, kwargs | {str(place): tensor}

    return hook


def main(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int | str, Tensor | None]:
    """Where the main tensor of a call sits, and the tensor: the first floating-point one, by position, then by keyword."""
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in places:
        if isinstance(value, Tensor) and value.is_floating_point():
            return place, value
    return 0, None


def _entering(entered: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _, tensor = main(args, kwargs)
        # A copy, because a block may add to its input in place.
        entered[:] = [] if tensor is None else [tensor.detach().clone()]

    return hook


def _leaving(record: Recording, block: str, entered: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        left = output[0] if isinstance(output, (tuple, list)) else output
        if not entered or not isinstance(left, Tensor) or left.shape != entered[0].shape:
            raise InputError(f"The block {block} does not map a tensor to one of the same shape, so it cannot be left out.")
        record.blocks[block] = (entered[0], left.detach().clone())

    return hook

"""Hooks that record what watched weights read and what watched blocks do, and that leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.probes.products import Product, Products
from pomona.vocabulary import Batch, InputError, Watch

_Trust = Literal["given", "heard", "either"]  # what is taken for a parameter's input; either: what was heard, if anything was
_STRAIGHT = (nn.Linear, nn.modules.conv._ConvNd)  # their `weight` reads what the module is given
_FIRST = ("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse")  # of recurrent modules: the others read what is made inside


def examples(batch: Batch) -> int:
    """How many examples a batch holds: the first dimension of its first tensor, in lists and dicts as well."""
    for value in tree_leaves((batch.args, dict(batch.kwargs))):
        if isinstance(value, Tensor) and value.ndim:
            return len(value)
    raise InputError("A batch holds no tensor with a batch dimension; give tensors whose first dimension counts the examples.")


def values(model: nn.Module, watch: Watch) -> dict[str, Tensor]:
    """The current values of all watched parameters, by name."""
    known = dict(model.named_parameters(remove_duplicate=False))
    return {name: known[name].detach() for name in sorted(watch.inputs | watch.experts | watch.grads)}


def tokens(x: Tensor, mask: Any) -> Tensor:
    """(batch, length, features) -> (tokens, features) without what `mask` (batch, length) hides; other tensors as they are."""
    if not isinstance(mask, Tensor) or x.dim() != 3 or mask.shape != x.shape[:2] or bool(mask.all()):
        return x
    return x[mask.bool()]


class Recording:
    """What was seen in one pass: what each weight reads, one entry a call, and both ends of blocks by name.

    A module's input counts as what its parameter reads only where that is known, of torch's own layers, or was heard at the
    product itself (`products.py`).
    """

    def __init__(self, watch: Watch, trust: Mapping[str, _Trust], products: Products, differentiate: bool) -> None:
        self._calls: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in watch.inputs}
        self._trust, self._products, self._differentiate = trust, products, differentiate
        self.mixed: set[str] = set()
        self.blocks: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """Note one call; the version tells later whether the tensor was overwritten."""
        self._calls[name].append((tensor, tensor._version))

    def calls(self, name: str) -> list[Tensor]:
        """The inputs of every call, in order; raises InputError where they are unknown or one was overwritten in place."""
        found = self._read(name)
        if any(tensor._version != version for tensor, version in found):
            raise InputError(f"The input of {name} is overwritten in place after it is read; make that operation out of place.")
        return [tensor for tensor, _ in found]

    def inputs(self, names: frozenset[str]) -> dict[str, Tensor]:
        """One tensor a weight: the calls of a shared module joined along the batch."""
        return {name: join(name, self.calls(name)) for name in sorted(names)}

    def routed(self, name: str) -> tuple[Tensor, Tensor]:
        """Of a stack of matrices: all rows that are multiplied with one of them, and (rows,) int64, with which."""
        heard = self._heard(name)
        if not heard:
            raise InputError(f"What {name} reads is unknown: no product with it was seen on this data. {_leave(name)}")
        if any(product.rows._version != product.version for product in heard):
            raise InputError(f"The input of {name} is overwritten in place after it is read; make that operation out of place.")
        experts = [product.experts for product in heard if product.experts is not None]
        assert len(experts) == len(heard)  # whatever has three dimensions and is no kernel is heard as a stack
        return torch.cat([product.rows.detach() for product in heard]), torch.cat(experts)

    def _read(self, name: str) -> list[tuple[Tensor, int]]:
        given, trust = self._calls[name], self._trust[name]
        if trust != "given":
            heard = self._heard(name)
            if heard and any(product.experts is not None for product in heard):
                raise InputError(
                    f"Each matrix of {name} reads rows of its own, which this method does not tell apart. {_leave(name)}"
                )
            if heard and not _same(heard, [tensor for tensor, _ in given]):
                if self._differentiate:
                    raise InputError(f"{name} reads something else than its module is given, so gradients there are unknown.")
                return [(product.rows, product.version) for product in heard]
            if not heard and trust == "heard":
                raise InputError(f"What {name} reads is unknown: no product with it was seen on this data. {_leave(name)}")
        if name in self.mixed:
            raise InputError(f"Parts of {name} read different tensors, so its inputs are not those of one matrix. {_leave(name)}")
        if not given:
            raise InputError(
                f"What {name} reads cannot be recorded because its own module is never called with a floating-point tensor; "
                f"skip it, or use a criterion that needs no data."
            )
        return given

    def _heard(self, name: str) -> list[Product]:
        heard = self._products.heard.get(name, [])
        if name in self._products.unclear or len({product.dim for product in heard}) > 1:
            raise InputError(f"{name} takes part in more than plain products, so what it reads is unknown. {_leave(name)}")
        return heard


def _leave(name: str) -> str:
    return f"Leave it alone with --keep '{name}', or use a criterion that needs no data."


def _same(heard: Sequence[Product], given: Sequence[Tensor]) -> bool:
    """Whether the products read, call by call, the very memory that the module was given, rows of matrices in any shape."""

    def same(product: Product, x: Tensor) -> bool:
        rows, first = product.rows, 0 if product.dim is None else -1
        alike = rows.shape[first:] == x.shape[first:] and rows.stride()[first:] == x.stride()[first:]
        return alike and rows.data_ptr() == x.data_ptr() and rows.numel() == x.numel()

    return len(heard) == len(given) and all(map(same, heard, given))


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
    modules, handles = dict(model.named_modules(remove_duplicate=False)), []
    owners = _owners(watch.inputs, modules)
    trust = {name: _trust(modules[owner], name) for owner, names in owners.items() for name in names}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    heard = {*watch.experts, *(name for name, way in trust.items() if way != "given")}
    if differentiate and watch.experts:
        raise InputError(f"Gradients at what each matrix of {min(watch.experts)} reads are unknown. {_leave(min(watch.experts))}")
    products = Products({name: parameters[name] for name in sorted(heard & parameters.keys())})
    record = Recording(watch, trust, products, differentiate)
    try:
        for owner, names in owners.items():
            hook = _reader(record, names, differentiate)
            handles.append(modules[owner].register_forward_pre_hook(hook, with_kwargs=True))
        for block in sorted(watch.blocks):
            if block not in modules:
                raise InputError(f"The model has no block {block}; trace the model that you prune.")
            entered: list[Tensor] = []
            handles.append(modules[block].register_forward_pre_hook(_entering(entered), with_kwargs=True))
            handles.append(modules[block].register_forward_hook(_leaving(record, block, entered)))
        with products if products.parameters else nullcontext():
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


def _trust(module: nn.Module, name: str) -> _Trust:
    """Whether a module is known to multiply with this parameter what it is given."""
    own = name.rpartition(".")[2]
    if isinstance(module, nn.MultiheadAttention) and own == "in_proj_weight":
        return "given"  # as long as queries, keys and values are one tensor
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and own in _FIRST:
        return "given"
    if isinstance(module, _STRAIGHT) and own == "weight":
        return "either"  # state-space models have layers of torch's that are never called: functions read their weights
    return "heard"


def _reader(record: Recording, names: list[str], differentiate: bool) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place, tensor = main(args, kwargs)
        if tensor is None:
            return None
        if isinstance(module, nn.MultiheadAttention) and not _to_itself(args, kwargs):
            record.mixed.update(names)
        if differentiate:
            tensor = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
        for name in names:
            record.add(name, tensor)
        if isinstance(place, int):
            return (*args[:place], tensor, *args[place + 1 :]), kwargs
        return args, kwargs | {str(place): tensor}

    return hook


def _to_itself(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of attention has one tensor for queries, keys and values."""
    given = [*args[:3], *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)]
    return len({(x.data_ptr(), x.shape, x.stride()) for x in given[:3]}) == 1


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

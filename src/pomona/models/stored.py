"""The tensors of a transformers model as a folder stores them: which make which, and what a changed one is stored as."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor, nn

from pomona.graph.infer import tied
from pomona.models.conversions import Conversions
from pomona.shards import Made, Place
from pomona.vocabulary import InputError, finite, first_line

Places = Mapping[str, Place | Made]
Parts = Mapping[str, list[str]]
_WHOLE = ""  # the part of a tensor that is stored as one
_MISFITS = (RuntimeError, ValueError, LookupError, TypeError)  # what joining tensors that do not fit may raise


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors of the model, `names`, that are made together of the stored ones in `parts`, which are of type `dtype`.

    `parts` lists them by what they are in joining them; there is one part of one where a tensor is stored as it is.
    """

    names: tuple[str, ...]
    parts: Parts
    dtype: torch.dtype

    @property
    def keys(self) -> list[str]:
        """The names of the stored ones."""
        return [key for part in self.parts.values() for key in part]

    @property
    def whole(self) -> str | None:
        """The name of the stored tensor that is the model's own; None where it must be made."""
        return self.parts[_WHOLE][0] if _WHOLE in self.parts else None


class Stored:
    """The tensors of `model`, a skeleton with parameters on the meta device, in the files that `places` speaks of.

    `groups` has every parameter, by each of its names, and every buffer that is stored; `own` says by which name a tensor is
    known that has several. Raises InputError where a parameter without a value is not stored, or a tensor is in another shape.
    """

    def __init__(self, model: nn.Module, places: Places) -> None:
        self._places = places
        self._state = {name: torch.empty_like(value, device="meta") for name, value in model.state_dict().items()}
        self._table = Conversions(model, self._state)
        parts = self._parts()
        self.own = _own_names(model, parts)
        empty = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.is_meta]
        needed = [name for name in empty if self.own[name] == name]
        expected = self._expected({*needed, *parts} & {*self._state})
        self._check(parts, expected)
        groups = [self._group(name, parts[name]) for name in self._state if name in parts]
        owners = {name: group for group in groups for name in group.names}
        if lost := next((name for name in needed if name not in owners), None):
            stored = next((key for key in expected if key not in places and self._table.target(key)[0] == lost), lost)
            raise _missing(stored, lost)
        self.groups = {name: owners[own] for name, own in self.own.items() if own in owners}

    def read(self, group: Group, places: Places | None = None) -> dict[str, Tensor]:
        """Its tensors by their names in the model, of the type that is stored; from `places`, or from where they were found.

        Raises InputError where a stored one holds NaN or infinity, or is truncated.
        """
        there = self._places if places is None else places
        return self._joined(group.names[0], group.parts, lambda key: _sound(key, there[key].read(key)))

    def check(self, group: Group) -> None:
        """Raises InputError where what is stored of it holds NaN or infinity; looked at piece by piece, and not kept."""
        for key in group.keys:
            place = self._places[key]
            if isinstance(place, Made):
                _sound(key, place.read(key))
                continue
            for piece in place.pieces():
                _sound(key, torch.frombuffer(bytearray(piece), dtype=place.dtype))

    def parted(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the model, whole groups of them, by the names and in the pieces in which they are stored."""
        return {self._table.spelled(key, self._places) or key: piece for key, piece in self._table.parted(values).items()}

    def gives_back(self, names: Collection[str]) -> bool:
        """Whether `parted` makes of these tensors what was stored, by names and shapes: a table need not lead back.

        Not where they are made together with others.
        """
        groups = {self.groups[name] for name in names}
        if any(name not in names for group in groups for name in group.names):
            return False
        before = {key: self._places[key].shape for group in groups for key in group.keys}
        after = self._expected({name for group in groups for name in group.names})
        return before == {key: tuple(piece.shape) for key, piece in after.items()}

    def _parts(self) -> dict[str, Parts]:
        """Tensor of the model -> the stored ones that it, and those that are made with it, are made of."""
        found: dict[str, dict[str, list[str]]] = {}
        for key in self._table.in_order(self._places):
            name, part = self._table.target(key)
            if name in self._state:
                found.setdefault(name, {}).setdefault(part or _WHOLE, []).append(key)
        for name, parts in found.items():
            # Where it is there in two ways, or by two names, transformers takes the first.
            if next(iter(parts)) == _WHOLE:
                found[name] = {_WHOLE: parts[_WHOLE][:1]}
            else:
                parts.pop(_WHOLE, None)
        return dict(found)

    def _expected(self, names: Collection[str]) -> dict[str, Tensor]:
        """What would be stored, by the table; nothing where transformers cannot go back from what it reads."""
        try:
            return self.parted({name: self._state[name] for name in names})
        except (NotImplementedError, *_MISFITS):
            return {}

    def _check(self, parts: Mapping[str, Parts], expected: Mapping[str, Tensor]) -> None:
        """Name the stored tensor that is missing among those that are joined, or of a wrong shape."""
        joined = {
            key: target for target, found in parts.items() if _WHOLE not in found for keys in found.values() for key in keys
        }
        begun = {joined[key] for key in expected if key in joined}
        for key, piece in expected.items():
            if key in joined and self._places[key].shape != tuple(piece.shape):
                raise _misfit(key, self._places[key].shape, piece.shape)
            if key not in self._places and (target := self._table.target(key)[0]) in begun:
                raise _missing(key, target)

    def _group(self, target: str, parts: Parts) -> Group:
        """What is made of them, tried on shapes alone."""
        keys = [key for part in parts.values() for key in part]
        try:
            made = self._joined(target, parts, lambda key: torch.empty(self._places[key].shape, device="meta"))
        except _MISFITS as error:
            raise InputError(f"{target} cannot be made of {keys[0]} and what belongs to it ({first_line(error)}).") from None
        for name, value in made.items():
            if name in self._state and value.shape != self._state[name].shape:
                raise _misfit(keys[0] if parts.keys() == {_WHOLE} else name, value.shape, self._state[name].shape)
        dtype = reduce(torch.promote_types, {self._places[key].dtype for key in keys})
        return Group(tuple(name for name in made if name in self._state), parts, dtype)

    def _joined(self, target: str, parts: Parts, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
        if _WHOLE in parts:
            return {target: read(parts[_WHOLE][0])}
        return self._table.joined(target, {part: [partial(read, key) for key in keys] for part, keys in parts.items()})


def _own_names(model: nn.Module, parts: Mapping[str, Parts]) -> dict[str, str]:
    """Name -> the name by which a shared tensor is stored, else its first."""
    first = tied(model)
    shared: dict[str, list[str]] = {}
    for name in model.state_dict():
        shared.setdefault(first.get(name, name), []).append(name)
    return {name: next((n for n in names if n in parts), names[0]) for names in shared.values() for name in names}


def _sound(key: str, value: Tensor) -> Tensor:
    if not finite(value):
        raise InputError(f"The weight {key} holds NaN or infinity; repair the model first.")
    return value


def _missing(key: str, target: str) -> InputError:
    there = f"The files have no tensor {key}"
    return InputError(f"{there}, {'which the model has' if key == target else f'of which {target} is made'}; a part is missing.")


def _misfit(name: str, there: tuple[int, ...], wanted: tuple[int, ...]) -> InputError:
    return InputError(f"{name} is {tuple(there)} in the files and {tuple(wanted)} in the model that the config describes.")

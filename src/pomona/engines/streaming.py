"""A model whose weights stay in their files: a block's tensors come into memory for its turn and leave when it is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pomona.engines.blocks import inside
from pomona.engines.memory import trim
from pomona.models.stored import Group, Stored
from pomona.processes import Processes
from pomona.shards import Made, Place, Shards, write_shard
from pomona.vocabulary import write_atomically

INDEX = "model.safetensors.index.json"


class FromShards:
    """The store of a model with parameters on the meta device (see `models.skeleton`), whose values are in `shards`.

    Blocks are computed in float32 and written to `folder`, one file each, in the type that they came in and, where transformers
    knows the way back, by the names that they had; else as the model holds them, which it opens as well. What lies outside of
    blocks is read when the model's code first asks for it; matrices that are float32 already are mapped, not read.
    Of several `processes` the first writes. Raises InputError where the files lack a tensor of the model, or hold NaN or
    infinity outside of blocks, much of which nobody else looks at before it is copied.
    """

    def __init__(
        self, model: nn.Module, shards: Shards, blocks: Sequence[str], folder: Path, processes: Processes | None = None
    ) -> None:
        self.model, self.shards, self.blocks, self.folder = model, shards, tuple(blocks), folder
        self.processes = processes or Processes()
        self.stored = Stored(model, shards.places)
        self.names = tuple(self.stored.groups)
        within = [inside(self.names, block) for block in blocks]
        rest = set(self.names).difference(*within)
        for group in self._groups(name for name in self.names if name in rest):
            self.stored.check(group)
        self._original = all(self.stored.gives_back(names) for names in (*within, rest))
        self._outer = {
            name: module
            for name, module in model.named_modules()
            if not any(name == block or name.startswith(f"{block}.") for block in blocks)
        }
        for name, module in self._outer.items():
            for kind in _KINDS:
                vars(module)[kind] = _Asked(vars(module)[kind], partial(self._when_asked, f"{name}." if name else ""))

    @contextmanager
    def held(self, block: str) -> Iterator[None]:
        """The block's values are in memory within."""
        bare = {name: _get(self.model, name) for name in inside(self.names, block)}
        try:
            self._bring(bare)
            yield
        finally:
            for name, value in bare.items():
                _set(self.model, name, value)
            trim()

    @torch.no_grad()
    def settle(self, block: str) -> Mapping[str, Tensor]:
        """Write the block as it now is; what is rounded in the file is so in memory too. A journal need hold nothing of it."""
        kept: dict[str, Tensor] = {}
        for name in (name for name in inside(self.names, block) if self.stored.own[name] == name):
            value = _get(self.model, name)
            kept[name] = value.detach().to(self.stored.groups[name].dtype)
            if kept[name].dtype != value.dtype:
                value.copy_(kept[name])
        if self.processes.first:
            write_shard(self._file(block), self.stored.parted(kept) if self._original else kept)
        return {}

    @torch.no_grad()
    def recall(self, block: str, saved: Mapping[str, Tensor]) -> None:
        """Be as the file says that was written before; the first process reads it."""
        places = Shards.of([self._file(block)]).places if self.processes.first else {}
        for group in self._groups(inside(self.names, block)):
            for name, value in self.processes.of_first(partial(self._written, group, places)).items():
                _get(self.model, name).copy_(value)

    def fetch(self, names: Iterable[str]) -> None:
        """Bring these tensors, which lie outside of blocks, into memory to stay."""
        self._bring(name for name in names if _get(self.model, name).is_meta)

    def finish(self, changed: Iterable[str] = ()) -> dict[str, Any]:
        """Name the files as readers look for them, beside one with what lies outside of blocks, and write their index.

        `changed` are tensors outside of blocks whose new values are in memory; all others are copied. Returns the index.
        """
        write_shard(self.folder / "outside.safetensors", self._outside(changed))
        files = [self.folder / "outside.safetensors", *(self._file(block) for block in self.blocks)]
        index: dict[str, str] = {}
        total = 0
        for number, path in enumerate(files, 1):
            named = self.folder / f"model-{number:05d}-of-{len(files):05d}.safetensors"
            places = Shards.of([path]).places
            index |= dict.fromkeys(places, named.name)
            total += sum(place.size for place in places.values())
            path.replace(named)
        made = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
        write_atomically(self.folder / INDEX, (json.dumps(made, indent=2) + "\n").encode())
        return made

    def close(self) -> None:
        """Leave the model alone."""
        for module in self._outer.values():
            for kind in _KINDS:
                vars(module)[kind] = dict(vars(module)[kind])

    def _file(self, block: str) -> Path:
        return self.folder / f"{block}.safetensors"

    def _groups(self, names: Iterable[str]) -> list[Group]:
        return list(dict.fromkeys(self.stored.groups[name] for name in names))

    def _bring(self, names: Iterable[str]) -> None:
        """Have these tensors in memory, one group of them read after the other."""
        wanted = list(names)
        for group in self._groups(wanted):
            made = self.stored.read(group)
            for name in (name for name in wanted if self.stored.groups[name] is group):
                value = made[self.stored.own[name]]
                _set(self.model, name, value.float() if value.is_floating_point() else value)

    def _written(self, group: Group, places: Mapping[str, Place | Made]) -> dict[str, Tensor]:
        """A group out of a file of ours."""
        return self.stored.read(group, places) if self._original else {name: places[name].read(name) for name in group.names}

    def _outside(self, changed: Iterable[str]) -> dict[str, Tensor | Place | Made]:
        """What lies in no block, as it is to be written."""
        groups = self._groups(self.names)
        of_blocks = self._groups(name for block in self.blocks for name in inside(self.names, block))
        found: dict[str, Tensor | Place | Made] = dict(self.shards.places)
        for group in groups if not self._original else of_blocks:
            for key in group.keys:
                del found[key]
        new = {self.stored.own[name]: _get(self.model, name).detach() for name in changed}
        for group in (group for group in groups if group not in of_blocks):
            values = {name: new[name].to(group.dtype) for name in group.names if name in new}
            if values and self._original:
                found |= self.stored.parted(self.stored.read(group) | values)
            elif not self._original:
                found |= {name: values[name] if name in values else self._as_held(group, name) for name in group.names}
        return found

    def _as_held(self, group: Group, name: str) -> Place | Made:
        """A tensor as the model holds it, made when it is written where it is not stored so."""
        if group.whole is not None:
            return self.shards.places[group.whole]
        shape = tuple(_get(self.model, name).shape)
        return Made(self.shards.places[group.keys[0]].file, group.dtype, shape, lambda: self.stored.read(group)[name])

    def _when_asked(self, prefix: str, own: str) -> None:
        name = prefix + own
        if name not in self.stored.groups:
            return
        key = self.stored.groups[name].whole
        place = None if key is None else self.shards.places[key]
        if isinstance(place, Place) and place.dtype == torch.float32 and len(place.shape) == 2:
            _set(self.model, name, self.shards.mapped(str(key)))
        else:
            self._bring([name])


_KINDS = ("_parameters", "_buffers")


class _Asked(dict[str, Any]):
    """A module's parameters or buffers, each of which is brought when it is first asked for as an attribute.

    Modules are not waited for to be called: some are only looked into by others. `get` and `items` bring nothing.
    """

    def __init__(self, held: Mapping[str, Any], bring: Callable[[str], None]) -> None:
        super().__init__(held)
        self._bring, self._waiting = bring, set(held)

    def __getitem__(self, own: str) -> Any:
        if own in self._waiting:
            self._waiting.discard(own)
            self._bring(own)
        return super().__getitem__(own)

    def __setitem__(self, own: str, value: Any) -> None:
        self._waiting.discard(own)
        super().__setitem__(own, value)


def _get(model: nn.Module, name: str) -> Tensor:
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    found = module._parameters.get(own) if own in module._parameters else module._buffers.get(own)
    assert found is not None
    return found


def _set(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    if own in module._buffers:
        module._buffers[own] = value
    else:
        module._parameters[own] = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)

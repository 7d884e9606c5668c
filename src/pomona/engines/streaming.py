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
from pomona.graph.infer import tied
from pomona.processes import Processes
from pomona.shards import Place, Shards, write_shard
from pomona.vocabulary import InputError, finite, write_atomically

INDEX = "model.safetensors.index.json"


class FromShards:
    """The store of a model with parameters on the meta device (see `models.skeleton`), whose values are in `shards`.

    Blocks are computed in float32 and written to `folder`, one file each, in the type that they came in. What lies outside of
    blocks is read when the module that holds it is first called; matrices that are float32 already are mapped, not read.
    Of several `processes` the first writes. Raises InputError where the files lack a tensor of the model.
    """

    def __init__(
        self, model: nn.Module, shards: Shards, blocks: Sequence[str], folder: Path, processes: Processes | None = None
    ) -> None:
        self.model, self.shards, self.blocks, self.folder = model, shards, tuple(blocks), folder
        self.processes = processes or Processes()
        self.keys = _keys(model, shards)
        self._hooks = {
            name: module.register_forward_pre_hook(self._when_called(name))
            for name, module in model.named_modules()
            if not any(name == block or name.startswith(f"{block}.") for block in blocks)
        }

    @contextmanager
    def held(self, block: str) -> Iterator[None]:
        """The block's values are in memory within."""
        names = inside(self.keys, block)
        bare = {name: _get(self.model, name) for name in names}
        try:
            for name in names:
                _set(self.model, name, self._value(name))
            yield
        finally:
            for name, value in bare.items():
                _set(self.model, name, value)
            trim()

    @torch.no_grad()
    def settle(self, block: str) -> Mapping[str, Tensor]:
        """Write the block as it now is; what is rounded in the file is so in memory too. A journal need hold nothing of it."""
        stored: dict[str, Tensor | Place] = {}
        for name in inside(self.keys, block):
            value, key = _get(self.model, name), self.keys[name]
            kept = value.detach().to(self.shards.places[key].dtype)
            if kept.dtype != value.dtype:
                value.copy_(kept)
            stored[key] = kept
        if self.processes.first:
            write_shard(self._file(block), stored)
        return {}

    @torch.no_grad()
    def recall(self, block: str, saved: Mapping[str, Tensor]) -> None:
        """Be as the file says that was written before; the first process reads it."""
        written = Shards.of([self._file(block)]) if self.processes.first else self.shards
        for name in inside(self.keys, block):
            _get(self.model, name).copy_(self.processes.of_first(partial(written.read, self.keys[name])))

    def fetch(self, names: Iterable[str]) -> None:
        """Bring these tensors, which lie outside of blocks, into memory to stay."""
        for name in names:
            if _get(self.model, name).is_meta:
                _set(self.model, name, self._value(name))

    def finish(self, changed: Iterable[str] = ()) -> dict[str, Any]:
        """Name the files as readers look for them, beside one with what lies outside of blocks, and write their index.

        `changed` are tensors outside of blocks whose new values are in memory; all others are copied. Returns the index.
        """
        within = {self.keys[name] for block in self.blocks for name in inside(self.keys, block)}
        rest: dict[str, Tensor | Place] = {key: place for key, place in self.shards.places.items() if key not in within}
        for name in changed:
            rest[self.keys[name]] = _get(self.model, name).detach().to(self.shards.places[self.keys[name]].dtype)
        write_shard(self.folder / "outside.safetensors", rest)
        files = [self.folder / "outside.safetensors", *(self._file(block) for block in self.blocks)]
        index: dict[str, str] = {}
        for number, path in enumerate(files, 1):
            named = self.folder / f"model-{number:05d}-of-{len(files):05d}.safetensors"
            index |= dict.fromkeys(Shards.of([path]).places, named.name)
            path.replace(named)
        total = sum(place.size for place in self.shards.places.values())
        made = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
        write_atomically(self.folder / INDEX, (json.dumps(made, indent=2) + "\n").encode())
        return made

    def close(self) -> None:
        """Leave the model alone."""
        for hook in self._hooks.values():
            hook.remove()

    def _file(self, block: str) -> Path:
        return self.folder / f"{block}.safetensors"

    def _value(self, name: str) -> Tensor:
        value = self.shards.read(self.keys[name])
        if not finite(value):
            raise InputError(f"The weight {name} holds NaN or infinity; repair the model first.")
        return value.float() if value.is_floating_point() else value

    def _when_called(self, module: str) -> Callable[..., None]:
        def hook(owner: nn.Module, args: Any) -> None:
            own = [
                name for name in (*owner._parameters, *owner._buffers) if (f"{module}.{name}" if module else name) in self.keys
            ]
            for name in own:
                full = f"{module}.{name}" if module else name
                if _get(self.model, full).is_meta or name in owner._buffers:
                    place = self.shards.places[self.keys[full]]
                    mapped = place.dtype == torch.float32 and len(place.shape) == 2
                    _set(self.model, full, self.shards.mapped(self.keys[full]) if mapped else self._value(full))
            self._hooks.pop(module).remove()

        return hook


def _keys(model: nn.Module, shards: Shards) -> dict[str, str]:
    """Parameter or saved buffer of the model -> its name in the files; tied ones by whichever of their names is there."""
    first = tied(model)
    groups: dict[str, list[str]] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        groups.setdefault(first.get(name, name), []).append(name)
    # Checkpoints of a bare model are read into one with a head, and the other way round.
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found: dict[str, str] = {}
    for group in groups.values():
        spellings = [s for name in group for s in (name, name.removeprefix(prefix), prefix + name)]
        key = next((spelling for spelling in spellings if spelling in shards.places), None)
        if key is None:
            raise InputError(
                f"The files have no tensor {group[0]}, which the model has; open the folder once with this transformers and save "
                "it by save_pretrained(folder, save_original_format=False)."
            )
        shape = tuple(model.get_parameter(group[0]).shape)
        if shards.places[key].shape != shape:
            raise InputError(
                f"{key} is {shards.places[key].shape} in the files and {shape} in the model that the config describes."
            )
        found |= dict.fromkeys(group, key)
    return found | {name: name for name in model.state_dict() if name not in found and name in shards.places}


def _get(model: nn.Module, name: str) -> Tensor:
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    found = module._parameters[own] if own in module._parameters else module._buffers[own]
    assert found is not None
    return found


def _set(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    if own in module._buffers:
        module._buffers[own] = value
    else:
        module._parameters[own] = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)

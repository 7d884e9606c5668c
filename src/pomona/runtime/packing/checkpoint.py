"""Checkpoints of one or more safetensors files, read and written a tensor at a time; weights in them may be packed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pomona.runtime.packing.bitmask import Packed, alive, check, unpack
from pomona.shards import Made, Shards
from pomona.vocabulary import InputError

FORMAT = 1  # of packed weights; in the header of every file and in the config
METHOD = "pomona"  # as `quantization_config` of a packed folder names it
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PARTS = ("bits", "offsets", "values")
_KEY = "pomona_packed"
# Mapped pages count as the process's memory until the system wants them back; since 0.8 safetensors can read instead.
_READ: Any = {"backend": "pread"} if tuple(map(int, safetensors.__version__.split(".")[:2])) >= (0, 8) else {}


class Checkpoint:
    """The tensors of a folder by name, whatever file they are in; opened lazily, so memory holds one at a time.

    A packed weight is there under its own name as a ticket, int64 (its number in the checkpoint, then its shape), beside
    `NAME_bits`, `NAME_offsets` and `NAME_values`. `metadata` is what the files' headers say.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.metadata: dict[str, str] = {}
        self._opened: dict[str, Any] = {}
        for path in files:
            try:
                file: Any = safe_open(str(path), framework="pt", **_READ)
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path} is not readable ({error}); it may be truncated.") from None
            said = file.metadata() or {}
            if said.get(_KEY, str(FORMAT)) != str(FORMAT):
                raise InputError(f"{path} has packed weights of format {said[_KEY]}; this Pomona reads {FORMAT}.")
            self.metadata.update(said)
            self._opened.update(dict.fromkeys(file.keys(), file))
        self.packed = self._complete() if _KEY in self.metadata else ()
        parts = {f"{name}_{part}" for name in self.packed for part in PARTS}
        self.names = tuple(name for name in self._opened if name not in parts)

    def _complete(self) -> tuple[str, ...]:
        """Names of packed weights; raises InputError where one lacks a part. One part alone is a tensor that is called so."""
        found: dict[str, int] = {}
        for name in self._opened:
            whole, _, part = name.rpartition("_")
            if part in PARTS:
                found[whole] = found.get(whole, int(whole in self._opened)) + 1
        for whole, count in found.items():
            if count == len(PARTS):
                lost = next(n for n in (whole, *(f"{whole}_{part}" for part in PARTS)) if n not in self._opened)
                raise InputError(f"The packed weight {whole} is incomplete: {lost} is missing.")
        return tuple(whole for whole, count in found.items() if count > len(PARTS))

    @classmethod
    def of(cls, folder: Path) -> Checkpoint:
        """The checkpoint of a transformers or Pomona folder; raises InputError where files are missing or truncated."""
        return cls(weight_files(folder))

    def tensor(self, name: str) -> Tensor:
        """A tensor as it is in the model: what is packed comes dense."""
        return unpack(self.parts(name)) if name in self.packed else self._read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape in the model, without reading it."""
        if name in self.packed:
            return tuple(self._read(name)[1:].tolist())
        return tuple(self._opened[name].get_slice(name).get_shape())

    def parts(self, name: str) -> Packed:
        """A packed weight as it is stored, checked, so that it can be read without looking at bounds again."""
        ticket = self._read(name)
        if ticket.dtype != torch.int64 or ticket.dim() != 1 or not len(ticket) or bool((ticket < 0).any()):
            raise InputError(f"The packed weight {name} is damaged: its number and shape are not whole numbers.")
        packed = Packed(tuple(ticket[1:].tolist()), *(self._read(f"{name}_{part}") for part in PARTS))
        check(packed, name)
        return packed

    def alive(self, name: str) -> Tensor:
        """Which elements of a packed weight live: bool, the weight's shape."""
        return alive(self.parts(name))

    def number(self, name: str) -> int:
        """The number of a packed weight in its checkpoint, by which a reader that renames and merges tensors finds it."""
        return int(self._read(name)[0])

    def _read(self, name: str) -> Tensor:
        try:
            found: Tensor = self._opened[name].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"The tensor {name} cannot be read ({error}); its file may be damaged.") from None
        return found


def is_packed(folder: Path) -> bool:
    """Whether a transformers folder says in its config that its weights are packed."""
    return quantized_by(folder) == METHOD


def quantized_by(folder: Path) -> str | None:
    """The method by which a transformers folder says in its config that its weights are stored; None where they are plain."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    said = config.get("quantization_config") if isinstance(config, dict) else None
    return str(said.get("quant_method", "a method without a name")) if isinstance(said, dict) else None


def unpacked(files: Sequence[Path]) -> Shards:
    """The tensors of files with packed weights as they are in the model; what is packed is unpacked whenever it is read.

    Raises InputError where a file is truncated or a packed weight lacks a part; reading raises it where one is damaged.
    """
    shards, checkpoint = Shards.of(files), Checkpoint(files)
    places = {name: shards.places[name] for name in checkpoint.names}
    for name in checkpoint.packed:
        values = shards.places[f"{name}_values"]
        places[name] = Made(values.file, values.dtype, checkpoint.shape(name), partial(checkpoint.tensor, name))
    return Shards(places, checkpoint.metadata)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder in the order of its index; raises InputError where there are none or one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} has neither {WEIGHTS} nor {INDEX}; it holds no weights that can be read here.")
    try:
        names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        files = [folder / name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / INDEX} is damaged; it does not say which tensor is in which file.") from None
    for path in files:
        if path.parent != folder or not path.is_file():
            raise InputError(f"{folder} has no {path.name}, which its index names; a part of the model is missing.")
    return files


def write_checkpoint(
    folder: Path, tensors: Iterable[tuple[str, Tensor | Packed]], metadata: Mapping[str, str], largest: int
) -> list[Path]:
    """Write tensors, packed or plain, as `model.safetensors`, or as numbered files of at most `largest` bytes with an index.

    Tensors are asked for one after the other and forgotten when their file is full. `metadata` goes into every header.
    """
    said = {"format": "pt", **metadata, _KEY: str(FORMAT)}
    parts: list[dict[str, Tensor]] = [{}]
    written: list[tuple[Path, list[str]]] = []
    total = held = number = 0

    def flush() -> None:
        nonlocal held
        full = parts.pop()
        path = folder / f"part-{len(written)}.safetensors"
        any_packed = any(f"{name}_{PARTS[0]}" in full for name in full)
        try:
            save_file(full, str(path), metadata=said if any_packed else {k: v for k, v in said.items() if k != _KEY})
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"The weights cannot be written to {folder.parent} ({error}); make room, or choose another place."
            ) from None
        _order(path)
        written.append((path, list(full)))
        parts.append({})
        held = 0

    for name, value in tensors:
        stored = _stored(name, value, number)
        number += isinstance(value, Packed)
        size = sum(t.nbytes for t in stored.values())
        if held and held + size > largest:
            flush()
        parts[0].update(stored)
        held, total = held + size, total + size
    flush()
    return _named(folder, written, total)


def _stored(name: str, value: Tensor | Packed, number: int) -> dict[str, Tensor]:
    if not isinstance(value, Packed):
        return {name: value.contiguous()}
    ticket = torch.tensor([number, *value.shape], dtype=torch.int64)
    return {name: ticket} | {f"{name}_{part}": getattr(value, part) for part in PARTS}


def _order(path: Path) -> None:
    """Sort a file's metadata, which safetensors writes in an order of chance, so that equal weights are equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def _named(folder: Path, written: Sequence[tuple[Path, list[str]]], total: int) -> list[Path]:
    """Give the parts the names that readers look for, now that their number is known."""
    if len(written) == 1:
        return [written[0][0].replace(folder / WEIGHTS)]
    index, files = {}, []
    for number, (path, names) in enumerate(written, 1):
        files.append(path.replace(folder / f"model-{number:05d}-of-{len(written):05d}.safetensors"))
        index.update(dict.fromkeys(names, files[-1].name))
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2, sort_keys=True)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")
    return files

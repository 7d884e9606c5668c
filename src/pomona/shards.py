"""Safetensors files read and written a tensor at a time: memory holds what is asked for, and no second copy of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomona.vocabulary import InputError, room_for

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `size` bytes from `start` on."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int

    def read(self, name: str) -> Tensor:
        """A copy of it; `name` is for who must be told that the file is truncated."""
        made = torch.empty(self.shape, dtype=self.dtype)
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(_bytes(made)) != self.size:
                raise InputError(f"{self.file} ends within {name}; it is truncated.")
        return made

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Its bytes, some at a time."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left:
                piece = file.read(min(left, _CHUNK))
                if not piece:
                    raise InputError(f"{self.file} became shorter while it was read.")
                left -= len(piece)
                yield piece


@dataclass(frozen=True)
class Made:
    """A tensor that is made of what lies in `file` whenever it is asked for: one that is packed, or that others are joined to."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, name: str) -> Tensor:
        """Make it."""
        return self.make()

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Its bytes, all at once."""
        yield _bytes(self.make().contiguous())


class Shards:
    """The tensors of some safetensors files by name. Reading copies; nothing stays open and nothing is mapped."""

    def __init__(self, places: Mapping[str, Place | Made], told: Mapping[str, str] | None = None) -> None:
        self.places, self.told = dict(places), dict(told or {})

    @classmethod
    def of(cls, files: Sequence[Path]) -> Shards:
        """Their tensors, and in `told` what their headers say besides.

        Raises InputError on a file that is missing, truncated or no safetensors file.
        """
        places: dict[str, Place | Made] = {}
        told: dict[str, str] = {}
        for path in files:
            found, said = _header(path)
            places |= found
            told |= said
        return cls(places, told)

    def read(self, name: str) -> Tensor:
        """The tensor, as it is stored."""
        return self.places[name].read(name)

    def mapped(self, name: str, behind: int = 0) -> Tensor:
        """The tensor as a view of the file: only what is looked at comes into memory, and what is written stays there.

        Its storage goes on for `behind` bytes where the file does.
        """
        place = self.places[name]
        assert isinstance(place, Place)  # nothing else is in a file as it is
        reach = min(place.size + behind, place.file.stat().st_size - place.start)
        if not reach:
            return torch.empty(place.shape, dtype=place.dtype)
        flat = torch.from_numpy(np.memmap(place.file, np.uint8, "c", place.start, (reach,)))
        return flat[: place.size].view(place.dtype).view(place.shape)

    @property
    def stamp(self) -> str:
        """A hash of all names, types, shapes, sizes and times of change; of no values."""
        files = sorted({place.file for place in self.places.values()})
        told = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        tensors = sorted((name, str(place.dtype), place.shape) for name, place in self.places.items())
        return hashlib.sha256(repr((told, tensors)).encode()).hexdigest()


def write_shard(path: Path, tensors: Mapping[str, Tensor | Place | Made], told: Mapping[str, str] | None = None) -> int:
    """One safetensors file, whole or not at all. Returns the bytes of its tensors.

    A `Place` is copied from where it lies, a `Made` made when its turn comes. Tensors lie in the order given; `told` goes into
    the header. Raises InputError where the disk is full.
    """
    header, start = {"__metadata__": {"format": "pt", **(told or {})}}, 0
    for name, value in tensors.items():
        size = value.numel() * value.element_size() if isinstance(value, Tensor) else value.size
        entry = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [start, start + size]}
        header[name] = entry  # type: ignore[assignment]
        start += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with room_for(path.parent), partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for value in tensors.values():
                for piece in _pieces(value):
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return start


def _header(path: Path) -> tuple[dict[str, Place], dict[str, str]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length)) if length < size else None
        if not isinstance(entries, dict):
            raise ValueError("its header is longer than the file")
        told = entries.pop("__metadata__", {})
        if not isinstance(told, dict) or not all(isinstance(said, str) for said in told.values()):
            raise ValueError("its header tells no words")
        return {name: _place(path, name, entry, 8 + length, size) for name, entry in entries.items()}, told
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); it may be truncated.") from None


def _place(path: Path, name: str, entry: Mapping[str, Any], origin: int, size: int) -> Place:
    """Where a tensor lies, if it lies within the file."""
    dtype, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, first, last)):
        raise ValueError(f"a size of {name} is not a whole number")
    if origin + last > size or last - first != prod(shape) * dtype.itemsize:
        raise ValueError(f"it ends within {name}")
    return Place(path, dtype, shape, origin + first, last - first)


def _pieces(value: Tensor | Place | Made) -> Iterator[bytes | memoryview]:
    return iter([_bytes(value.detach().contiguous())]) if isinstance(value, Tensor) else value.pieces()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data

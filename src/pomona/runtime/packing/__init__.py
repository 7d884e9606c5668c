"""Weights on disk: bit-packed where they are sparse, in one file or many, read and written a tensor at a time."""

from pomona.runtime.packing.bitmask import Packed, alive, pack, unpack
from pomona.runtime.packing.checkpoint import (
    FORMAT,
    INDEX,
    METHOD,
    Checkpoint,
    is_packed,
    quantized_by,
    unpacked,
    weight_files,
    write_checkpoint,
)
from pomona.runtime.packing.filling import fill, first_names, stored
from pomona.runtime.packing.rewriting import rewrite

__all__ = [
    "FORMAT",
    "INDEX",
    "METHOD",
    "Checkpoint",
    "Packed",
    "alive",
    "fill",
    "first_names",
    "is_packed",
    "pack",
    "quantized_by",
    "rewrite",
    "stored",
    "unpack",
    "unpacked",
    "weight_files",
    "write_checkpoint",
]

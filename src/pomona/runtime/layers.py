"""A file of packed layers: safetensors, mapped into memory as they are, checked before a kernel sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.runtime.formats.conv_format import ConvFormat, Geometry
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.layouts import conv_layout, linear_layout
from pomona.shards import Shards, write_shard
from pomona.vocabulary import InputError, first_line

FORMAT = "1"
_KEY = "pomona_layers"
_BEHIND = 64  # bytes that kernels may read after the values
_END = "_end"  # so many zeros, so that the last tensor has them too


def write_layers(path: str | Path, layers: Mapping[str, Format | ConvFormat]) -> int:
    """Write packed weights by name into one file, whole or not at all (`docs/formats.md`). Returns the bytes of its tensors.

    Raises InputError where a name is empty or the disk is full.
    """
    if "" in layers:
        raise InputError("A packed layer needs a name.")
    tensors = {f"{name}/{part}": tensor for name, packed in layers.items() for part, tensor in packed.parts().items()}
    # Widest first: then every number lies at a multiple of its size, and no bytes are lost between tensors.
    ordered: dict[str, Tensor] = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
    ordered[_END] = torch.zeros(_BEHIND, dtype=torch.uint8)
    about = {name: _about(packed) for name, packed in layers.items()}
    return write_shard(Path(path), ordered, {_KEY: FORMAT, "layers": json.dumps(about)})


def read_layers(path: str | Path) -> dict[str, Format | ConvFormat]:
    """The packed weights of a file that `write_layers` made, by name; their numbers stay in the file until they are read.

    Every part is checked against the others, which reads bits and indices once. Raises InputError on anything that is not such a
    file, is truncated, of another version, or damaged. The file must not shrink while its layers are in use.
    """
    shards = Shards.of([Path(path)])
    version = shards.told.get(_KEY)
    if version != FORMAT:
        what = "no packed layers" if version is None else f"packed layers of format {version}, this Pomona reads format {FORMAT}"
        raise InputError(f"{path} holds {what}.")
    try:
        about: dict[str, Any] = json.loads(shards.told["layers"])
        return {name: _read(shards, name, found) for name, found in about.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        raise InputError(f"{path} says of its layers what makes no sense ({first_line(error)}); it is damaged.") from error


def _about(packed: Format | ConvFormat) -> dict[str, Any]:
    common = {"layout": packed.name, "shape": list(packed.shape), "parts": list(packed.parts())}
    if isinstance(packed, Format):
        return {**common, "values": packed.values}
    g = packed.geometry
    return {**common, "stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def _read(shards: Shards, name: str, about: Mapping[str, Any]) -> Format | ConvFormat:
    parts = {str(part): shards.mapped(f"{name}/{part}", _BEHIND) for part in about["parts"]}
    shape = tuple(about["shape"])
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
        raise InputError(f"layer {name} has the shape {shape}.")
    if "values" in about:
        rows, columns = shape
        return linear_layout(about["layout"]).of(parts, (rows, columns), about["values"])
    out, into, height, width = shape
    stride, padding, dilation = (tuple(about[key]) for key in ("stride", "padding", "dilation"))
    return conv_layout(about["layout"]).of(
        parts, (out, into, height, width), Geometry.of(stride, padding, dilation, about["groups"])
    )

"""A packed weight as a module: its parts are buffers, so that they are saved, loaded and copied with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Self

from pomona.runtime.formats.conv_format import ConvFormat, Geometry
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.layouts import conv_layout, linear_layout
from pomona.vocabulary import InputError

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
About: TypeAlias = tuple[list[str], str, str, list[int], list[int]]  # names of the parts, layout, values, shape, flat geometry


class Packed(nn.Module):
    """The parts of a `Format` or a `ConvFormat`, with the few words that make one of them again.

    Parts stay on the CPU and keep their types whatever is asked of the model (`half`, `to`). A state dict may bring a weight with
    other survivors, so parts of other sizes; they are checked as `Format.of` checks, and refused among the state dict's errors.
    """

    def __init__(self, packed: Format | ConvFormat) -> None:
        super().__init__()
        values = packed.values if isinstance(packed, Format) else "f32"
        geometry = packed.geometry if isinstance(packed, ConvFormat) else None
        # As operations take it, and one attribute, since parts may have any name: "values", say.
        self.about: About = (list(packed.parts()), packed.name, values, list(packed.shape), flat(geometry))
        for name, part in packed.parts().items():
            self.register_buffer(name, part)

    def tensors(self) -> list[Tensor]:
        """The parts, in the order of their names."""
        buffers = self._buffers
        return [buffers[name] for name in self.about[0]]  # type: ignore[misc]

    def forward(self) -> Tensor:
        """The dense float32 weight."""
        return made(self.tensors(), *self.about).dense()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """With unsigned parts as signed ones of the same bits: torch pickles uint16 as what it cannot read."""
        parts = {name: part.view(_SIGNED.get(part.dtype, part.dtype)) for name, part in self._parts().items()}
        types = {name: part.dtype for name, part in self._parts().items()}
        return {**super().__getstate__(), "_buffers": parts, "types": types}  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        types = state.pop("types")
        parts = {name: part.view(types[name]) for name, part in state["_buffers"].items()}
        super().__setstate__({**state, "_buffers": parts})  # type: ignore[no-untyped-call]

    def _parts(self) -> dict[str, Tensor]:
        return dict(zip(self.about[0], self.tensors(), strict=True))

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        names = self.about[0]
        missing = [prefix + name for name in names if prefix + name not in state_dict]
        missing_keys.extend(missing)
        known = {prefix + name for name in names}
        unexpected_keys.extend(key for key in state_dict if strict and key.startswith(prefix) and key not in known)
        if missing:
            return
        parts = [state_dict[prefix + name].detach().cpu().clone() for name in names]
        try:
            found = made(parts, *self.about)
        except InputError as error:
            error_msgs.append(f"{prefix.rstrip('.')}: {error}")
            return
        for name, part in found.parts().items():
            self._buffers[name] = part


def made(
    parts: list[Tensor], names: list[str], layout: str, values: str, shape: list[int], geometry: list[int]
) -> Format | ConvFormat:
    """The format of these parts, checked. Raises InputError where they do not belong together."""
    named = dict(zip(names, parts, strict=True))
    if geometry:
        return conv_layout(layout).of(named, (shape[0], shape[1], shape[2], shape[3]), unflat(geometry))
    return linear_layout(layout).of(named, (shape[0], shape[1]), values)


def flat(geometry: Geometry | None) -> list[int]:
    """A geometry as a list of numbers, which is what an operation can take; empty for a matrix."""
    return [] if geometry is None else [*geometry.stride, *geometry.padding, *geometry.dilation, geometry.groups]


def unflat(numbers: list[int]) -> Geometry:
    """The inverse of `flat`."""
    return Geometry((numbers[0], numbers[1]), (numbers[2], numbers[3]), (numbers[4], numbers[5]), numbers[6])

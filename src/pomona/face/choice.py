"""Which layers of a saved model run on sparse kernels, and in which layouts: a small file beside the plain weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pomona.face.accelerate import apply, fusion
from pomona.native import library
from pomona.runtime.sparse.candidates import Candidate
from pomona.vocabulary import InputError

CHOICE = "layouts.json"
_FORMAT = 1


def save_choice(packed: Mapping[str, Candidate], fused: bool, folder: Path) -> None:
    """Write the layouts by the names of their layers, and whether other ops were fused with them."""
    layers = {name: candidate.to_json() for name, candidate in packed.items()}
    about = {"format": _FORMAT, "fused": fused, "layers": layers}
    (folder / CHOICE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def with_choice(
    model: nn.Module, path: Path, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> nn.Module:  # fmt: skip
    """The model with the layers packed that a file names; as it is without kernels, which would gain nothing.

    Where it says so, the model is traced on these inputs and fused anew. Raises InputError where the file says what cannot be.
    """
    if library().isa is None:
        return model
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise InputError(f"{path} is of format {found['format']!r}; this Pomona reads {_FORMAT}.")
        fused = bool(found.get("fused", False))
        chosen = {str(name): Candidate.from_json(about) for name, about in found["layers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} does not say how layers are packed.") from None
    packed = apply(model, chosen)
    return fusion(model, chosen, args, kwargs or {}, fused).model or packed

"""Which layers of a saved model run on sparse kernels, and in which layouts: a small file beside the plain weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from pomona.face.accelerate import apply
from pomona.native import library
from pomona.runtime.sparse.candidates import Candidate
from pomona.vocabulary import InputError

CHOICE = "layouts.json"
_FORMAT = 1


def save_choice(packed: Mapping[str, Candidate], folder: Path) -> None:
    """Write the layouts by the names of their layers."""
    layers = {name: candidate.to_json() for name, candidate in packed.items()}
    (folder / CHOICE).write_text(json.dumps({"format": _FORMAT, "layers": layers}, indent=2) + "\n", encoding="utf-8")


def with_choice(model: nn.Module, path: Path | None) -> nn.Module:
    """The model with the layers packed that a file names; as it is without a file, or without kernels, which would gain nothing.

    Raises InputError where the file says what cannot be.
    """
    if path is None or library().isa is None:
        return model
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise InputError(f"{path} is of format {found['format']!r}; this Pomona reads {_FORMAT}.")
        chosen = {str(name): Candidate.from_json(about) for name, about in found["layers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} does not say how layers are packed.") from None
    return apply(model, chosen)

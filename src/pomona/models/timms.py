"""timm models by name, with or without torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import parse_qsl

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pomona.models.source import Source
from pomona.models.torchvision_stub import import_timm
from pomona.vocabulary import InputError


def load(text: str) -> dict[str, Any]:
    """`NAME` with random weights (seed 0), `NAME?pretrained=1` from the hub, `NAME?weights=FILE` from a file.

    Further `key=number` pairs joined by `&` go to timm: `num_classes=10`, `in_chans=1`, `img_size=64`.
    """
    name, _, query = text.partition("?")
    options = {key: _number(key, value) for key, value in parse_qsl(query)}
    weights, download = options.pop("weights", None), bool(options.pop("pretrained", 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _create(name, options, download)
    if weights is not None:
        _fill(model, Path(str(weights)))
    random = not download and weights is None
    return {
        "model": model.eval(),
        "source": Source("timm", name, kwargs=options),
        "example": ((torch.randn(1, *_input_size(model, options), generator=torch.Generator().manual_seed(0)),), {}),
        "pixels": _pixels(model, options),
        "notes": (f"timm:{name} has random weights; add ?weights=FILE or ?pretrained=1 for trained ones.",) if random else (),
    }


def rebuild(source: Source) -> nn.Module:
    """The architecture with random weights."""
    return _create(source.value, dict(source.kwargs), download=False)


def _create(name: str, options: Mapping[str, Any], download: bool) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), 1)
        raise InputError(f"timm has no model '{name}'" + (f"; did you mean '{close[0]}'?" if close else "."))
    try:
        model: nn.Module = timm.create_model(name, pretrained=download, **options)
    except TypeError as error:
        raise InputError(f"timm cannot build {name} from {dict(options)}: {error}.") from None
    except (OSError, RuntimeError) as error:
        if not download:
            raise
        raise InputError(
            f"No pretrained weights for {name} could be fetched ({error}); give a file with ?weights=FILE."
        ) from None
    return model


def _fill(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    try:
        state: dict[str, Tensor] = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except UnpicklingError:
        raise InputError(f"{path} holds more than tensors, and nothing else is read; save the state dict alone.") from None
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} holds no readable weights ({error}); a state dict in .safetensors or .pt is needed.") from None
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"The weights in {path} do not fit the model: {error}.") from None


def _number(key: str, value: str) -> Any:
    if key == "weights":
        return value
    try:
        return int(value)
    except ValueError:
        raise InputError(f"timm option {key}={value} must be a whole number.") from None


def _input_size(model: nn.Module, options: Mapping[str, Any]) -> tuple[int, int, int]:
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    channels, height, width = config.get("input_size", (3, 224, 224))
    side = options.get("img_size")
    return options.get("in_chans", channels), side or height, side or width


def _pixels(model: nn.Module, options: Mapping[str, Any]) -> dict[str, Any]:
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    channels, height, _ = _input_size(model, options)
    return {
        "size": height,
        "mean": tuple(config.get("mean", (0.485, 0.456, 0.406))),
        "std": tuple(config.get("std", (0.229, 0.224, 0.225))),
        "crop": float(config.get("crop_pct", 0.875)),
        "channels": channels,
    }

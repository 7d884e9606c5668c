"""What users call MODEL, loaded: one file a kind of source, this one sends a text to the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pomona.entrypoint import is_entrypoint
from pomona.models import functions, hub, pretrained, programs, timms
from pomona.models.source import Kind, Source
from pomona.vocabulary import InputError

FORMS = (
    "a transformers folder or hub id, timm:NAME, module:function, file.py:function, a .pt2 file, "
    f"or one of {', '.join(pretrained.NAMES)}"
)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in eval mode and what came with it.

    `example` is (args, kwargs) of one forward pass when the source knows one. `pixels` says how pictures become its
    input: `size`, `mean`, `std` (of values in [0, 1]), `crop` (share of the shorter side) and `channels`. `notes` are
    sentences that the user should read, such as that the weights are random.
    """

    model: nn.Module
    source: Source
    example: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    tokenizer: Any = None
    pixels: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def load_model(text: str) -> Loaded:
    """The model that MODEL names, in eval mode.

    MODEL is a transformers folder or hub id, `timm:resnet18` (`timm:resnet18?num_classes=10&weights=net.safetensors`),
    `module:function` or `file.py:function` returning a model or (model, example inputs), a `.pt2` file, or a
    pretrained net that a package ships: `efficientnet-lite0`, `minilm`, `smollm2`. Raises InputError when it is none.
    """
    if text in pretrained.NAMES:
        return _pretrained(text)
    if text.startswith("timm:"):
        return Loaded(**timms.load(text.removeprefix("timm:")))
    if text.endswith(".pt2"):
        return Loaded(**programs.load(Path(text)))
    if Path(text).is_dir() and (Path(text) / "config.json").is_file():
        return Loaded(**hub.load(text))
    if Path(text).exists():
        raise InputError(f"{text} is {_what(Path(text))}; a model is {FORMS}.")
    if is_entrypoint(text):
        return Loaded(**functions.load(text))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return Loaded(**hub.load(text))
    raise InputError(f"There is no model '{text}'; a model is {FORMS}.")


def rebuild(source: Source) -> nn.Module:
    """The architecture of a source in eval mode; its weights are for the caller to load.

    Transformers and timm models are built from their config without reading any weights; a function is called again
    and a program is read again. Raises InputError when what the source names is no longer there.
    """
    builders: dict[Kind, Callable[[Source], nn.Module]] = {
        "transformers": hub.rebuild,
        "timm": timms.rebuild,
        "function": functions.rebuild,
        "program": programs.rebuild,
    }
    return builders[source.kind](source).eval()


def _pretrained(name: str) -> Loaded:
    if name == "efficientnet-lite0":
        loaded = functions.load("pomona.models.pretrained:efficientnet_lite0")
        return Loaded(**loaded, pixels=pretrained.LITE0_PIXELS)
    folder = pretrained.minilm_folder() if name == "minilm" else pretrained.smollm2_folder()
    return Loaded(**hub.load(str(folder)))


def _what(path: Path) -> str:
    return "a folder without config.json" if path.is_dir() else "a file that holds no architecture"

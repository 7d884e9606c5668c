"""OpenVINO's files, checked against OpenVINO."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import export, inputs_of
from pomona.runtime.export import difference, free_path, need, outputs, quiet, refuse_bfloat16, tolerance_for, with_free_batch
from pomona.runtime.inputs import batch_of, in_order, resized
from pomona.runtime.onnx import write as write_onnx
from pomona.vocabulary import InputError, first_line


def export_openvino(
    model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None, path: str | Path, tolerance: float | None = None
) -> dict[str, Any]:
    """Write OpenVINO's `.xml` with the `.bin` of the weights beside it, float32, by way of ONNX, and check it in OpenVINO.

    It is run on the example inputs; the batch stays free where the model allows it, and is then tried at another size.
    Returns `max_error` (see `difference`), `tolerance` (by default as in `export_onnx`), `bytes` of both files and
    `dynamic_batch`. Raises InputError when packages are missing, a file exists, the model cannot be exported, an input is
    bfloat16, or the error exceeds `tolerance`; then no file is left.
    """
    need("onnx", "onnxscript", "openvino")
    path = free_path(Path(path))
    weights = free_path(path.with_suffix(".bin"))
    positional, keywords = inputs_of(args, kwargs)
    keywords = in_order(model, keywords)
    refuse_bfloat16("OpenVINO", tree_leaves((positional, keywords)))
    whole = outputs(model, positional, keywords)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder, quiet():
        free = with_free_batch(model, positional, keywords)
        write_onnx(free or export(model, positional, keywords), model, Path(folder) / "model.onnx")
        made = Path(folder) / "model.xml"
        write(Path(folder) / "model.onnx", made)
        trials = [(positional, keywords)]
        if free is not None:
            trials.append(resized(positional, keywords, batch_of(positional, keywords) + 2))
        expected = [whole, *(outputs(model, *trial) for trial in trials[1:])]
        tolerance = tolerance_for(expected[0]) if tolerance is None else tolerance
        error = max(difference(results(compiled(made), *trial), right) for trial, right in zip(trials, expected, strict=True))
        if not error <= tolerance:
            raise InputError(f"OpenVINO differs from the model by {error:.2g}, more than {tolerance:g}; no file was written.")
        made.with_suffix(".bin").replace(weights)
        made.replace(path)
    total = path.stat().st_size + weights.stat().st_size
    return {"max_error": error, "tolerance": tolerance, "bytes": total, "dynamic_batch": free is not None}


def write(source: Path, path: Path) -> None:
    """An ONNX file as OpenVINO's .xml, with the .bin beside it, unchecked. Raises InputError where an op has no translation."""
    import openvino

    try:
        openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
    # The converter wraps whatever a translation raised in errors of its own that no public name covers.
    except Exception as refusal:
        raise InputError(f"OpenVINO does not take the model: {first_line(refusal)}.") from refusal


def compiled(path: Path) -> Any:
    """A file of OpenVINO or ONNX made ready on the CPU, in float32, on as many threads as torch has."""
    import openvino

    # Without the hint it would round to bfloat16 wherever the processor is quick at that.
    wishes = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    return core.compile_model(core.read_model(path), "CPU", wishes)


def results(made: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What a compiled model gives for these inputs. Raises InputError where it takes more or fewer."""
    tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    if len(made.inputs) != len(tensors):
        raise InputError(f"OpenVINO's model takes {len(made.inputs)} inputs where the model takes {len(tensors)} tensors.")
    given = {place: tensor.detach().cpu().contiguous().numpy() for place, tensor in enumerate(tensors)}
    found = made(given)
    tensors = [torch.from_numpy(found[place].copy()) for place in range(len(made.outputs))]
    # numpy has no bfloat16, so OpenVINO gives its bits as another type of that size.
    kinds = [entry.get_element_type().get_type_name() for entry in made.outputs]
    return [tensor.view(torch.bfloat16) if kind == "bf16" else tensor for tensor, kind in zip(tensors, kinds, strict=True)]

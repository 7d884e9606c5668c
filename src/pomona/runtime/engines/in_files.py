"""ONNX Runtime and OpenVINO, from files of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pomona.runtime import onnx, openvino
from pomona.runtime.engines.engine import Call, Running
from pomona.runtime.engines.files import Files
from pomona.runtime.export import need
from pomona.runtime.onnx_sparse import sparsen
from pomona.vocabulary import InputError


def onnxruntime(files: Files) -> Running:
    """An ONNX file in ONNX Runtime."""
    return _in_onnxruntime(files.onnx, files)


def onnxruntime_sparse(files: Files) -> Running:
    """The same with sparse initialisers: zeros are not stored, and are multiplied all the same.

    Raises InputError where no weight is smaller so.
    """
    path = files.folder / "sparse.onnx"
    shutil.copy(files.onnx, path)
    if not sparsen(path):
        raise InputError("no weight is sparse enough to be smaller so")
    return _in_onnxruntime(path, files)


def openvino_file(files: Files) -> Running:
    """OpenVINO's .xml and .bin in OpenVINO, in float32."""
    path = files.folder / "model.xml"
    openvino.write(files.onnx, path)
    made = openvino.compiled(path)
    nbytes = path.stat().st_size + path.with_suffix(".bin").stat().st_size
    return Running(_openvino_call(made, files.tensors), partial(openvino.results, made), nbytes)


def in_onnxruntime(path: Path, inputs: Sequence[Tensor]) -> Call:
    """One run of an ONNX file on these inputs, in the file's order. The file may go afterwards."""
    need("onnxruntime")
    return _onnxruntime_call(onnx.session(path), inputs)


def in_openvino(path: Path, inputs: Sequence[Tensor]) -> Call:
    """The same in OpenVINO, in float32."""
    need("openvino")
    return _openvino_call(openvino.compiled(path), inputs)


def _in_onnxruntime(path: Path, files: Files) -> Running:
    opened = onnx.session(path)
    inputs = list(onnx.fed(opened, files.args, files.kwargs).values())
    return Running(_onnxruntime_call(opened, inputs), partial(onnx.results, opened), path.stat().st_size)


def _onnxruntime_call(opened: Any, inputs: Sequence[Tensor]) -> Call:
    binding = opened.io_binding()  # inputs are handed over once, not copied in every pass
    for entry, tensor in zip(opened.get_inputs(), inputs, strict=True):
        binding.bind_cpu_input(entry.name, tensor.detach().contiguous().numpy())
    for entry in opened.get_outputs():
        binding.bind_output(entry.name)
    return lambda: opened.run_with_iobinding(binding)


def _openvino_call(made: Any, inputs: Sequence[Tensor]) -> Call:
    import openvino as ov

    request = made.create_infer_request()
    for place, tensor in enumerate(inputs):
        request.set_input_tensor(place, ov.Tensor(tensor.detach().contiguous().numpy(), shared_memory=True))
    return lambda: request.infer()

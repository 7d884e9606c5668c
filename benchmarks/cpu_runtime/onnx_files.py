"""Single layers as ONNX files of an old operator set, which every engine reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

_OPSET, _IR = 13, 8


def linear_file(weight: Tensor, batch: int, path: Path) -> Path:
    """Y = X W^T for W (out, in)."""
    from onnx import helper, numpy_helper

    turned = numpy_helper.from_array(weight.T.contiguous().numpy(), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _saved([node], [batch, weight.shape[1]], [batch, weight.shape[0]], turned, path)


def conv_file(weight: Tensor, size: int, batch: int, path: Path) -> Path:
    """A convolution of stride 1 that keeps the size of the map."""
    from onnx import helper, numpy_helper

    out, into, kernel, _ = weight.shape
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4, strides=[1, 1])
    given = numpy_helper.from_array(weight.contiguous().numpy(), "w")
    return _saved([node], [batch, into, size, size], [batch, out, size, size], given, path)


def _saved(nodes: list[Any], given: list[int], made: list[int], weight: Any, path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", given), ("y", made)))
    graph = helper.make_graph(nodes, "layer", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR), path)
    return path

"""Sparse initialisers in an ONNX file: zeros are not stored. A matter of size: runtimes multiply by the dense weight anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_SMALLER = 0.95  # of the dense bytes; below, it is worth another kind of node


def sparsen(path: Path) -> int:
    """Rewrite the file with those float initialisers sparse that are smaller so, and return how many.

    A survivor costs its own bytes and eight for its place, so float32 pays from about 68 % zeros on. Initialisers that
    subgraphs or the graph's own inputs and outputs use stay as they are.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    graph, changed = model.graph, 0
    fixed = {entry.name for entry in (*graph.input, *graph.output)} | _inner(graph)
    for tensor in list(graph.initializer):
        if tensor.name in fixed or not tensor.dims or tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            continue
        dense = numpy_helper.to_array(tensor)
        places = np.flatnonzero(dense)  # not -0.0 either, which is what `weight * mask` leaves: half of all zeros
        if len(places) * (8 + dense.itemsize) > _SMALLER * dense.nbytes:
            continue
        sparse = graph.sparse_initializer.add(dims=tensor.dims)
        sparse.values.CopyFrom(numpy_helper.from_array(dense.reshape(-1)[places], tensor.name))
        sparse.indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64), f"{tensor.name}_places"))
        graph.initializer.remove(tensor)
        changed += 1
    if changed:
        onnx.save(model, path)
    return changed


def _inner(graph: object) -> set[str]:
    """Names that subgraphs read."""
    found: set[str] = set()
    for node in graph.node:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= {name for each in inner.node for name in each.input} | _inner(inner)
    return found

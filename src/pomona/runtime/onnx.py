"""ONNX files, checked against ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import export, inputs_of
from pomona.runtime.export import (
    appearing,
    difference,
    free_path,
    need,
    outputs,
    quiet,
    refuse_bfloat16,
    tolerance_for,
    with_free_batch,
)
from pomona.runtime.inputs import batch_of, in_order, resized
from pomona.runtime.onnx_sparse import sparsen
from pomona.vocabulary import InputError, first_line

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LARGEST = 1.9e9  # bytes of weights; protobuf messages end at 2 GB


def export_onnx(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None,
    path: str | Path,
    tolerance: float | None = None,
    *,
    sparse: bool = False,
) -> dict[str, Any]:
    """Write an ONNX file and check it with ONNX Runtime on the example inputs and on random ones of the same kind.

    The batch stays free where the model allows it, and is then checked at another size as well. With `sparse`, weights that are
    smaller so are stored without their zeros, which makes a smaller file and no faster model. Returns `max_error` (see
    `difference`), `tolerance` (by default 1e-4, or 0.03 where outputs are in half precision), `bytes`, `dynamic_batch` and, with
    `sparse`, `sparse_weights`, how many. Raises InputError when packages are missing, the file exists, the model cannot be
    exported, anything is bfloat16, or the error exceeds `tolerance`; then no file is left.
    """
    need("onnx", "onnxscript", "onnxruntime")
    path = free_path(Path(path))
    positional, keywords = inputs_of(args, kwargs)
    keywords = in_order(model, keywords)
    refuse_bfloat16("ONNX Runtime", (*model.parameters(), *tree_leaves((positional, keywords))))
    if sum(p.numel() * p.element_size() for p in model.parameters()) > _LARGEST:
        raise InputError("An ONNX file holds at most 2 GB and this model is larger; export it to pt2.")
    whole = outputs(model, positional, keywords)
    with appearing(path) as partial, quiet():
        free = with_free_batch(model, positional, keywords)
        write(free or export(model, positional, keywords), model, partial)
        thinned = {"sparse_weights": sparsen(partial)} if sparse else {}
        trials = [(positional, keywords), redrawn(positional, keywords)]
        if free is not None:
            trials.append(resized(positional, keywords, batch_of(positional, keywords) + 2))
        expected = [whole, *(outputs(model, *trial) for trial in trials[1:])]
        tolerance = tolerance_for(expected[0]) if tolerance is None else tolerance
        found = _answers(partial, trials)
        error = max(map(difference, found, expected))
        if not error <= tolerance:
            raise InputError(f"ONNX Runtime differs from the model by {error:.2g}, more than {tolerance:g}; no file was written.")
    size = path.stat().st_size
    return {"max_error": error, "tolerance": tolerance, "bytes": size, "dynamic_batch": free is not None, **thinned}


def write(program: torch.export.ExportedProgram, model: nn.Module, path: Path) -> None:
    """The program of this model as an ONNX file, unchecked. Raises InputError where an op has no translation."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = torch.onnx.export(program, dynamo=True, verbose=False)
            assert made is not None
            made.save(path, external_data=False)
    # The exporter wraps whatever an operator's translation raised in errors of its own that no public name covers.
    except Exception as error:
        reason = _reason(error)
        raise InputError(f"{type(model).__name__} cannot be written as ONNX: {reason}.") from error


def _reason(error: BaseException) -> str:
    """What was wrong at first, without the colours of terminals."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _COLOURS.sub("", first_line(error)).rstrip(".:")


def _answers(path: Path, trials: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[list[Tensor]]:
    """What the file gives for each of these inputs. Raises InputError where ONNX Runtime cannot run it."""
    try:
        opened = session(path)
        return [results(opened, *trial) for trial in trials]
    except InputError:
        raise
    # ONNX Runtime has errors of its own for what it has no kernels for, which no public name covers.
    except Exception as error:
        raise InputError(f"ONNX Runtime does not run what was exported: {_reason(error)}.") from error


def session(path: Path) -> Any:
    """An ONNX file opened by ONNX Runtime, on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fed(opened: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the inputs by the names that a session has for them, in its order. Raises InputError where it has more
    or fewer.
    """
    tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    names = [entry.name for entry in opened.get_inputs()]
    if len(names) != len(tensors):
        raise InputError(
            f"The ONNX file takes {len(names)} inputs ({', '.join(names)}) where the model takes {len(tensors)} tensors."
        )
    return {name: kwargs.get(name, tensor) for name, tensor in zip(names, tensors, strict=True)}


def results(opened: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What a session gives for these inputs of the model."""
    given = {name: tensor.detach().cpu().numpy() for name, tensor in fed(opened, args, kwargs).items()}
    return [torch.from_numpy(array) for array in opened.run(None, given)]


def redrawn(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Other inputs of the same kind: normal numbers of the same scale; whole numbers change places, so they stay valid."""
    generator = torch.Generator().manual_seed(1)

    def redraw(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.numel() < 2:
            return value
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator).to(value)
            return drawn * value.std() + value.mean()
        return value.flatten()[torch.randperm(value.numel(), generator=generator)].view(value.shape)

    return tuple(redraw(value) for value in args), {name: redraw(value) for name, value in kwargs.items()}

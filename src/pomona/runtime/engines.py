"""A dense model made ready in other engines, so that a pruned one is compared with the best of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import export
from pomona.runtime.export import need, quiet
from pomona.runtime.onnx import session, write
from pomona.runtime.openvino import compiled
from pomona.vocabulary import InputError, first_line

Call: TypeAlias = Callable[[], object]
Ready: TypeAlias = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], Call]
ENGINES = ("eager", "compile", "onnxruntime", "openvino")


def engines_here() -> tuple[str, ...]:
    """Those that are installed; torch's own always are."""
    onnx = all(find_spec(name) is not None for name in ("onnx", "onnxscript"))
    return tuple(e for e in ENGINES if e in ("eager", "compile") or (onnx and find_spec(e) is not None))


def ready(engine: str, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """One forward pass on these inputs in float32, on as many threads as torch has now, compiled and warm.

    The shapes are those of the inputs. Raises InputError for an unknown or missing engine, or one that refuses the model.
    """
    if engine not in _READY:
        raise InputError(f"There is no engine {engine!r}; there are {', '.join(ENGINES)}.")
    try:
        call = _READY[engine](model, args, kwargs)
        call()
    except InputError:
        raise
    # Compilers and exporters raise what they like, and which of their errors a model meets cannot be known.
    except Exception as error:
        raise InputError(f"{type(model).__name__} does not run in {engine}: {first_line(error)}.") from error
    return call


def _eager(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    return lambda: model(*args, **kwargs)


def _compiled(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    frozen = torch.compile(model, dynamic=False, options={"freezing": True})
    return lambda: frozen(*args, **kwargs)


def in_onnxruntime(path: Path, inputs: Sequence[Tensor]) -> Call:
    """One run of an ONNX file on these inputs, in the file's order. The file may go afterwards."""
    need("onnxruntime")
    opened = session(path)
    binding = opened.io_binding()  # inputs are handed over once, not copied in every pass
    for entry, tensor in zip(opened.get_inputs(), inputs, strict=True):
        binding.bind_cpu_input(entry.name, tensor.detach().contiguous().numpy())
    for entry in opened.get_outputs():
        binding.bind_output(entry.name)
    return lambda: opened.run_with_iobinding(binding)


def in_openvino(path: Path, inputs: Sequence[Tensor]) -> Call:
    """The same in OpenVINO, in float32."""
    need("openvino")
    import openvino

    request = compiled(path).create_infer_request()
    for place, tensor in enumerate(inputs):
        request.set_input_tensor(place, openvino.Tensor(tensor.detach().contiguous().numpy(), shared_memory=True))
    return lambda: request.infer()


def _by_file(run: Callable[[Path, Sequence[Tensor]], Call]) -> Ready:
    def made(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        need("onnx", "onnxscript")
        inputs = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            with quiet(), torch.inference_mode(False), torch.no_grad():
                write(export(model, args, kwargs), model, path)
            return run(path, inputs)

    return made


_READY: dict[str, Ready] = {
    "eager": _eager,
    "compile": _compiled,
    "onnxruntime": _by_file(in_onnxruntime),
    "openvino": _by_file(in_openvino),
}

"""Models as files for other runtimes; each is read back and compared before it gets its name."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pomona.graph.export import export, inputs_of
from pomona.graph.quiet import quiet as silent
from pomona.runtime.inputs import batch_of, in_order, resized
from pomona.vocabulary import InputError, evaluating, first_line

EXACT, HALF = 1e-4, 0.03  # of the largest output, in another runtime; the latter for half precision
_TINY = 1e-30  # what lies below may be flushed to zero
_EXACT = 1e-6  # an exported program runs the same kernels; what differs by more computes something else


def export_program(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None, path: str | Path) -> dict[str, Any]:
    """Write a `.pt2` file (torch.export) for inputs of these shapes, read it back, and compare the outputs.

    The batch stays free where the model allows it. Returns `max_error`
    (0: equal to the last bit), `bytes` and `dynamic_batch`. Raises InputError when the model cannot be exported,
    the file exists, or the program that was read gives something else; then no file is left.
    """
    path = free_path(Path(path))
    positional, keywords = inputs_of(args, kwargs)
    expected = outputs(model, positional, keywords)
    with appearing(path) as partial, quiet():
        free = with_free_batch(model, positional, keywords)
        torch.export.save(free or export(model, positional, keywords), partial)
        again = torch.export.load(partial).module()
        error = difference(outputs(again, positional, keywords), expected)
        if error > _EXACT:
            raise InputError(
                f"The exported program differs from the model by {error:.2g}; is there randomness in its forward pass?"
            )
    return {"max_error": error, "bytes": path.stat().st_size, "dynamic_batch": free is not None}


def with_free_batch(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram | None:
    """The program with its batch dimension free; None where the forward pass ties it to a number."""
    kwargs = in_order(model, kwargs)
    size = batch_of(args, kwargs)
    # Traced with at least two rows: torch.export takes a dimension of one row for the constant 1.
    rows_args, rows_kwargs = resized(args, kwargs, max(2, size))
    free = torch.export.Dim("batch", min=1)
    given = inspect.signature(model.forward).bind(*rows_args, **rows_kwargs).arguments
    shapes = tree_map(
        lambda v: {0: free} if isinstance(v, Tensor) and v.dim() > 0 and len(v) == max(2, size) else None, dict(given)
    )
    try:
        with evaluating(model), silent():
            program = torch.export.export(model, rows_args, rows_kwargs, dynamic_shapes=shapes, strict=False)
        program.example_inputs = (args, kwargs)
        other = resized(args, kwargs, size + 2)
        follows = difference(outputs(program.module(), *other), outputs(model, *other)) <= _EXACT
    # Every reason against a free batch ends here, and the answer to all is the same: export it with a fixed one.
    except Exception:
        return None
    return program if follows else None


def outputs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Every tensor that one forward pass in evaluation mode gives, in order. Raises InputError where the model does not run."""
    with evaluating(model), torch.no_grad():
        try:
            found = model(*args, **kwargs)
        # The forward pass is the user's; whatever it raises means that it does not take these inputs.
        except Exception as error:
            raise InputError(f"{type(model).__name__} does not run on these inputs: {first_line(error).rstrip('.')}.") from error
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


def difference(ours: list[Tensor], theirs: list[Tensor], least: float = _TINY) -> float:
    """The largest difference between two lists of outputs, relative to the largest value where that exceeds `least`.

    Infinite where the outputs differ in number or shape, or only one of two values is finite. NaN equals NaN.
    """
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        a, b = (t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (a, b))
        apart = (a != b) & ~(a.isnan() & b.isnan())
        gap = (a - b)[apart].abs()  # equal infinities, such as those of masks, would give NaN
        scale = max(least, float(b[b.isfinite()].abs().max())) if bool(b.isfinite().any()) else 1.0
        worst = max(worst, float(gap.nan_to_num(float("inf"), float("inf")).max()) / (scale or 1.0) if gap.numel() else 0.0)
    return worst


def tolerance_for(expected: list[Tensor]) -> float:
    """How far another runtime may be off these outputs: it sums in another order."""
    return HALF if any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in expected) else EXACT


def refuse_bfloat16(runtime: str, tensors: Iterable[Any]) -> None:
    """Raises InputError where one of these is a tensor in bfloat16."""
    if any(isinstance(tensor, Tensor) and tensor.dtype == torch.bfloat16 for tensor in tensors):
        raise InputError(f"{runtime} does not take bfloat16 here; export model.float(), with inputs in float32, too.")


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; what is there afterwards becomes `path`, unless something was raised."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        yield partial
        partial.replace(path)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings or log lines from exporters about their own internals, which a user cannot act on."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def free_path(path: Path) -> Path:
    """The path, if a file can appear there; InputError when it exists or its folder does not."""
    if path.exists():
        raise InputError(f"{path} exists; choose another name or remove it.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} into.")
    return path


def need(*packages: str) -> None:
    """Raise InputError with the pip line unless these packages can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        extra = "openvino" if "openvino" in missing else "export"
        raise InputError(f"This format needs {', '.join(missing)}: pip install 'pomona[{extra}]'.")

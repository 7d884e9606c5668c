"""Models as files for other runtimes; each is read back and compared before it gets its name."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pomona.graph.export import export, inputs_of
from pomona.vocabulary import InputError, evaluating


def export_program(model: nn.Module, args: Any, kwargs: Mapping[str, Any] | None, path: str | Path) -> dict[str, Any]:
    """Write a `.pt2` file (torch.export) for inputs of these shapes, read it back, and compare the outputs.

    Returns `max_error` (0: equal to the last bit) and `bytes`. Raises InputError when the model cannot be exported,
    the file exists, or the program that was read gives something else; then no file is left.
    """
    path = free_path(Path(path))
    positional, keywords = inputs_of(args, kwargs)
    program = export(model, positional, keywords)
    with appearing(path) as partial, quiet():
        torch.export.save(program, partial)
        again = torch.export.load(partial).module()
        error = difference(outputs(again, positional, keywords), outputs(model, positional, keywords))
        if error > 1e-6:
            raise InputError(
                f"The exported program differs from the model by {error:.2g}; is there randomness in its forward pass?"
            )
    return {"max_error": error, "bytes": path.stat().st_size}


def outputs(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Every tensor that one forward pass in evaluation mode gives, in order."""
    with evaluating(model), torch.no_grad():
        return [leaf for leaf in tree_leaves(model(*args, **kwargs)) if isinstance(leaf, Tensor)]


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference between two lists of outputs, relative to the largest value where that exceeds 1.

    Infinite where the outputs differ in number or shape, or only one of two values is finite.
    """
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return float("inf")
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.double(), b.double()
        gap = (a - b).abs()[a != b]  # equal infinities, such as those of masks, would give NaN
        scale = max(1.0, float(b[b.isfinite()].abs().max())) if bool(b.isfinite().any()) else 1.0
        worst = max(worst, float(gap.nan_to_num(float("inf")).max()) / scale if gap.numel() else 0.0)
    return worst


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
    logging.disable(logging.WARNING)
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
        raise InputError(f"ONNX export needs {', '.join(missing)}: pip install 'pomona[export]'.")

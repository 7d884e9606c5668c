"""Arrays from files: `.npz`, and `.pt` read without running anything."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomona.data.checks import check_arrays
from pomona.data.data import Data
from pomona.data.loaders import ArrayLoader, split
from pomona.vocabulary import InputError, first_line

_KEYS = ("x", "y", "x_test", "y_test")


def load_arrays(path: Path, batch: int, seed: int) -> Data:
    """Data from the arrays x, y and, if there, x_test, y_test; without them a fifth is held out.

    Whole-number labels are classes ("accuracy"), others are targets ("mse"), none at all means "agreement".
    Raises InputError on a file that cannot be read, lacks x, or holds NaN.
    """
    found = {key: value for key, value in _read(path).items() if key in _KEYS}
    if "x" not in found:
        raise InputError(f"{path} has no array named x; it needs x and y, and may have x_test and y_test.")
    x, y = (_tensor(found.get(key), path) for key in ("x", "y"))
    assert x is not None
    check_arrays(x, y, str(path))
    if "x_test" in found:
        held, answers = (_tensor(found.get(key), path) for key in ("x_test", "y_test"))
        assert held is not None
        check_arrays(held, answers, f"the test half of {path}")
        if (y is None) != (answers is None):
            raise InputError(f"{path} has labels for one half only; give both y and y_test, or neither.")
    else:
        learn, test = split(len(x), seed)
        held, answers = x[test], None if y is None else y[test]
        x, y = x[learn], None if y is None else y[learn]
    train = ArrayLoader(x, y, batch, seed)
    metric = "agreement" if y is None else "mse" if y.is_floating_point() else "accuracy"
    names = tuple(str(i) for i in range(int(y.max()) + 1)) if y is not None and metric == "accuracy" and len(y) else ()
    return Data(train, ArrayLoader(held, answers, batch), metric, path.stem, names)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise InputError(f"{path} holds more than arrays, and nothing else is read; save x and y as plain tensors.") from None
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        reason = first_line(error)
        raise InputError(f"{path} cannot be read as plain arrays ({reason}); it may be truncated or hold objects.") from None
    if isinstance(found, (tuple, list)) and len(found) == 2:
        return dict(zip(("x", "y"), found, strict=True))
    if not isinstance(found, Mapping):
        raise InputError(f"{path} must hold a dict with x and y; it holds a {type(found).__name__}.")
    return found


def _tensor(value: Any, path: Path) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, (np.ndarray, Tensor)) or (isinstance(value, np.ndarray) and value.dtype.kind not in "fiub"):
        raise InputError(f"{path} holds something other than arrays of numbers.")
    tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    if tensor.is_floating_point():
        return tensor.float()
    # Bytes are pictures or labels; as labels they must be whole numbers, as pictures the user wants them as numbers.
    return tensor.long() if tensor.dim() <= 1 or tensor.dtype == torch.int64 else tensor.float()

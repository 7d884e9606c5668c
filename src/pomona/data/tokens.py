"""Text that was tokenised before: whole numbers in a `.npy` or `.safetensors` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pomona.data.data import Data
from pomona.data.text import drawn_data, token_data
from pomona.vocabulary import InputError, first_line

SUFFIXES = (".npy", ".safetensors")


def load_tokens(path: Path, length: int, batch: int, seed: int, draws: int | None = None) -> Data:
    """Data from token ids: (n,) is cut into windows of `length`, (n, length) are windows. The last fifth is for testing.
    With `draws`, so many windows are drawn from (n,), or from the rows as from documents.

    A `.safetensors` file holds one tensor, or one called `input_ids`. Raises InputError for anything else.
    """
    ids = _array(path) if path.suffix == ".npy" else _tensor(path)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool or ids.dim() not in (1, 2):
        kind = str(ids.dtype).removeprefix("torch.")
        raise InputError(f"{path} holds {kind} {tuple(ids.shape)}; tokens are whole numbers, (n,) or (n, length).")
    if ids.dim() == 2 and (len(ids) < 2 or ids.shape[1] < 2):
        raise InputError(f"{path} holds {len(ids)} windows of {ids.shape[1]} tokens; at least two of two are needed.")
    if ids.numel() and int(ids.min()) < 0:
        raise InputError(f"{path} holds the token {int(ids.min())}; tokens are numbers from 0.")
    if draws is not None:
        rows = [ids.long()] if ids.dim() == 1 else list(ids.long())
        return drawn_data(rows, path.name, None, length, batch, seed, draws)
    return token_data(ids.long(), path.name, length, batch, seed)


def _array(path: Path) -> Tensor:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as one plain array ({first_line(error)}).") from None
    if found.dtype.kind not in "iufb":
        raise InputError(f"{path} holds something other than numbers.")
    if found.dtype.kind == "u" and found.size and found.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path} holds the token {found.max()}, which no vocabulary has.")
    return torch.from_numpy(found.astype(np.int64) if found.dtype.kind == "u" else found)


def _tensor(path: Path) -> Tensor:
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({first_line(error)}).") from None
    if "input_ids" in found or len(found) == 1:
        return found.get("input_ids", next(iter(found.values())))
    raise InputError(f"{path} holds {len(found)} tensors and none is called input_ids.")

"""Packed weights to and from the sparse tensors of others, without loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from pomona.vocabulary import InputError


def to_csr(weight: Tensor) -> Tensor:
    """The same matrix as torch's compressed sparse rows, int64 indices; zeros are left out. `of_sparse` is the way back."""
    with _no_beta_warning():
        return _matrix(weight).to_sparse_csr()


def to_bsr(weight: Tensor, rows: int, columns: int = 1) -> Tensor:
    """The same matrix as torch's block sparse rows of blocks (rows, columns): blocks of zeros are left out.

    Raises InputError where the blocks do not divide the matrix.
    """
    weight = _matrix(weight)
    if rows < 1 or columns < 1 or weight.shape[0] % rows or weight.shape[1] % columns:
        raise InputError(f"Blocks of {rows}x{columns} do not divide a matrix of {weight.shape[0]}x{weight.shape[1]}.")
    with _no_beta_warning():
        return weight.to_sparse_bsr((rows, columns))


def of_sparse(weight: Tensor) -> Tensor:
    """The dense matrix of any of torch's sparse layouts (COO, CSR, CSC, BSR, BSC), with its indices checked.

    Raises InputError where indices are out of bounds or out of order.
    """
    if weight.layout is torch.strided:
        return weight
    try:
        with torch.sparse.check_sparse_tensor_invariants(True), _no_beta_warning():  # type: ignore[no-untyped-call]
            if weight.layout is torch.sparse_coo:
                return torch.sparse_coo_tensor(weight._indices(), weight._values(), weight.shape).to_dense()
            rows = weight.layout in (torch.sparse_csr, torch.sparse_bsr)
            outer = weight.crow_indices() if rows else weight.ccol_indices()
            inner = weight.col_indices() if rows else weight.row_indices()
            return torch.sparse_compressed_tensor(outer, inner, weight.values(), weight.shape, layout=weight.layout).to_dense()
    except RuntimeError as error:
        raise InputError(f"A sparse tensor of shape {tuple(weight.shape)} has impossible indices: {error}") from error


def to_compressed_tensors(weight: Tensor) -> dict[str, Tensor]:
    """A weight as the four tensors of compressed-tensors' sparse-bitmask format: shape, compressed, bitmask, row_offsets.

    `bitmask` uint8 (rows, ceil(columns / 8)), lowest bit first; `row_offsets` int64 (rows,), where each row begins in
    `compressed`. Any dtype; what equals zero is left out, so -0.0 comes back as 0.0.
    """
    weight = _matrix(weight)
    lives = weight != 0
    counts = lives.sum(1)
    return {
        "shape": torch.tensor(weight.shape),
        "compressed": weight[lives],
        "bitmask": torch.from_numpy(np.packbits(lives.numpy(), axis=1, bitorder="little")),
        "row_offsets": counts.cumsum(0) - counts,
    }


def of_compressed_tensors(parts: Mapping[str, Tensor]) -> Tensor:
    """The dense weight (rows, columns) of such four tensors. Raises InputError where they do not belong together."""
    try:
        shape, values, bits, offsets = (parts[name] for name in ("shape", "compressed", "bitmask", "row_offsets"))
        rows, columns = (int(number) for number in shape.flatten().tolist())
        if bits.shape != (rows, -(-columns // 8)):  # before bits are unpacked to columns of which there may be too many
            raise InputError("its bits are not those of its shape")
        lives = np.unpackbits(bits.numpy(), axis=1, count=columns, bitorder="little").view(bool)
        counts = lives.sum(1, dtype=np.int64)
        if values.shape != (int(counts.sum()),) or not np.array_equal(offsets.numpy(), counts.cumsum() - counts):
            raise InputError("its bits, offsets and values disagree")
    except (KeyError, ValueError, TypeError, RuntimeError, InputError) as error:
        raise InputError(f"A weight of compressed-tensors is damaged: {error}.") from error
    dense = torch.zeros(rows, columns, dtype=values.dtype)
    dense[torch.from_numpy(lives)] = values
    return dense


def _matrix(weight: Tensor) -> Tensor:
    if weight.dim() != 2 or weight.layout is not torch.strided:
        raise InputError(f"A dense matrix is needed; got {weight.layout} of shape {tuple(weight.shape)}.")
    return weight.detach().cpu()


@contextmanager
def _no_beta_warning() -> Iterator[None]:
    """Torch says at the first sparse tensor of a process that it is in beta, which a user cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta")
        yield

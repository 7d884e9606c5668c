"""Layers with packed weights, and which of them pays where: measured, not guessed."""

from pomona.runtime.sparse.convolution import SparseConv2d
from pomona.runtime.sparse.linear import SparseLinear
from pomona.runtime.sparse.packed import Packed

__all__ = ["Packed", "SparseConv2d", "SparseLinear"]

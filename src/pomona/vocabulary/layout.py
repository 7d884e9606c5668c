"""A weight as the matrix of its product: (out, in, k), whatever way round the layer stores it; or flat, as solvers take it."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary.sites import Weight


def to_matrix(weight: Weight, tensor: Tensor) -> Tensor:
    """The tensor as (out, in, k): output features, inputs that each of them reads, kernel positions.

    Grouped convolutions have the inputs of one group in `in`; transposed ones are turned round, group by group. Further
    dimensions of a linear weight (experts) join the rows. Without an input dimension the last one takes its place.
    """
    return _split(weight, tensor).permute(_order(weight)).reshape(matrix_shape(weight))


def from_matrix(weight: Weight, matrix: Tensor) -> Tensor:
    """The inverse of `to_matrix`, exact, for any dtype."""
    order = _order(weight)
    pieces = torch.empty(weight.shape, device="meta")
    permuted = [_split(weight, pieces).shape[i] for i in order]
    back = [order.index(i) for i in range(len(order))]
    return matrix.reshape(permuted).permute(back).reshape(weight.shape)


def matrix_shape(weight: Weight) -> tuple[int, int, int]:
    """(out, in, k) of `to_matrix`."""
    if weight.conv is not None:
        first, second = weight.shape[:2]
        groups = weight.conv.groups
        k = weight.size // (first * second)
        return (second * groups, first // groups, k) if weight.conv.transposed else (first, second, k)
    width = weight.shape[_contracted(weight)] if weight.shape else 1
    return weight.size // width, width, 1


def to_product(weight: Weight, tensor: Tensor) -> Tensor:
    """The tensor as (groups, rows, columns): each group's outputs are rows times the columns of what that group reads.

    Columns are kernel positions, and inputs within each, so that n:m groups are neighbours. Only grouped convolutions and
    stacks of matrices (experts) have more than one group.
    """
    return to_matrix(weight, tensor).transpose(1, 2).reshape(product_shape(weight))


def from_product(weight: Weight, product: Tensor) -> Tensor:
    """The inverse of `to_product`, exact, for any dtype."""
    rows, width, k = matrix_shape(weight)
    return from_matrix(weight, product.reshape(rows, k, width).transpose(1, 2))


def product_shape(weight: Weight) -> tuple[int, int, int]:
    """(groups, rows, columns) of `to_product`."""
    rows, width, k = matrix_shape(weight)
    groups = weight.conv.groups if weight.conv is not None else weight.stack or 1
    return groups, rows // groups, width * k


def row_dims(weight: Weight) -> tuple[int, ...]:
    """The dimensions that say which output row an element belongs to: the output dimension, in a stack that of each matrix."""
    out = weight.out_dim or 0
    return (out,) if weight.stack is None else (0, out)


def _split(weight: Weight, tensor: Tensor) -> Tensor:
    if weight.conv is not None and weight.conv.transposed:
        return tensor.reshape(weight.conv.groups, -1, weight.shape[1], *weight.shape[2:])
    return tensor


def _order(weight: Weight) -> list[int]:
    dims = len(weight.shape)
    if weight.conv is not None:
        return [0, 2, 1, *range(3, dims + 1)] if weight.conv.transposed else list(range(dims))
    contracted = _contracted(weight)
    written = [weight.out_dim] if weight.out_dim is not None and weight.out_dim != contracted else []
    rest = [d for d in range(dims) if d != contracted and d not in written]
    return [*rest, *written, *([contracted] if dims else [])]


def _contracted(weight: Weight) -> int:
    return len(weight.shape) - 1 if weight.in_dim is None else weight.in_dim

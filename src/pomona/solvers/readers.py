"""What several solvers end with: readers that weigh the units anew."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pomona.vocabulary import Member, View


def scaled(view: View, readers: Sequence[Member], factors: Tensor) -> dict[str, Tensor]:
    """The readers' weights, as tensors of their dtype, with what they multiply a unit by scaled by its factor (units,)."""
    found: dict[str, Tensor] = {}
    for member in readers:
        weight = found.get(member.tensor, view.tensors[member.tensor].detach())
        found[member.tensor] = (weight.double() * _along(member, weight, factors)).to(weight.dtype)
    return found


def _along(member: Member, weight: Tensor, factors: Tensor) -> Tensor:
    assert member.dim is not None  # an axis indexes every member along a dimension
    size, factors = weight.shape[member.dim], factors.double().to(weight.device)
    if member.index is None:
        along = factors
    else:
        along = factors.new_ones(size)
        along[member.index.to(weight.device)] = factors[:, None].expand(member.index.shape)
    return along.view([size if dim == member.dim else 1 for dim in range(weight.ndim)])

"""A reader as the plain product that it is: input columns times weight columns, sorted by the unit that they belong to."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from pomona.vocabulary import Convolution, InputError, Member, Seen


def columns(member: Member, seen: Seen, positions: int) -> tuple[Tensor, Tensor]:
    """(inputs (samples, groups, units, k), weights (outputs, groups, units, k)), float64.

    The output of a sample is their product summed over units and k, per group, without bias. k runs over the features of
    a unit and the kernel. Samples are `positions` outputs of each example (fewer where there are fewer), evenly spaced, or
    every row where rows do not divide by examples. Raises InputError for readers that are neither matrices nor convolutions.
    """
    x, w = seen.inputs[member.tensor].double(), seen.weights[member.tensor].double()
    kind, conv = (member.weight.kind, member.weight.conv) if member.weight else ("linear", None)
    if kind in ("linear", "recurrent") and w.ndim == 2 and member.dim is not None:
        w = w.movedim(member.dim, 1)
        return _sorted(_rows(x, seen.examples, positions)[:, None, :, None], member), _sorted(w[:, None, :, None], member)
    if kind != "conv" or conv is None or (conv.transposed and conv.groups > 1):
        raise InputError(
            f"{member.tensor} is neither a matrix nor the weight of a plain convolution, so what units add is unknown; skip it."
        )
    if conv.transposed:
        x, conv = straight(x, conv, tuple(w.shape[2:]))
        w = w.flip(tuple(range(2, w.ndim))).transpose(0, 1)
    taken = patches(x, conv, tuple(w.shape[2:]), positions)  # (examples, channels, samples, kernel)
    examples, channels, samples, kernel = taken.shape
    taken = taken.reshape(examples, conv.groups, channels // conv.groups, samples, kernel).permute(0, 3, 1, 2, 4).flatten(0, 1)
    w = w.reshape(conv.groups, -1, w.shape[1], kernel).transpose(0, 1)  # (outputs, groups, channels, kernel)
    return _sorted(taken, member), _sorted(w, member)


def _sorted(t: Tensor, member: Member) -> Tensor:
    """(n, groups, channels, kernel) -> (n, groups, units, k)."""
    if member.index is None:
        return t
    picked = t[:, :, member.index.to(t.device).flatten()]
    return picked.reshape(*t.shape[:2], len(member.index), -1)


def _rows(x: Tensor, examples: int, positions: int) -> Tensor:
    """(..., features) -> (samples, features)."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) % examples:
        return rows
    each = rows.reshape(examples, -1, rows.shape[1])
    return each[:, _spread(each.shape[1], positions).to(x.device)].flatten(0, 1)


def patches(x: Tensor, conv: Convolution, kernel: tuple[int, ...], positions: int | None = None) -> Tensor:
    """The kernel's view of x (examples, channels, *space) at some outputs: (examples, channels, samples, kernel positions).

    Samples are `positions` outputs, evenly spaced; None stands for all.
    """
    x = pad(x, conv.rim)
    spans = [d * (k - 1) + 1 for d, k in zip(conv.dilation, kernel, strict=True)]
    outputs = tuple((n - span) // s + 1 for n, span, s in zip(x.shape[2:], spans, conv.stride, strict=True))
    number = torch.Size(outputs).numel()
    corners = torch.unravel_index(_spread(number, number if positions is None else positions), outputs)
    offsets = torch.tensor(list(product(*map(range, kernel)))).T  # (dimensions, kernel positions)
    flat = torch.zeros(1, dtype=torch.int64)
    for size, corner, offset, s, d in zip(x.shape[2:], corners, offsets, conv.stride, conv.dilation, strict=True):
        flat = flat * size + corner[:, None] * s + offset * d
    return x.flatten(2)[:, :, flat.to(x.device)]


def straight(x: Tensor, conv: Convolution, kernel: tuple[int, ...]) -> tuple[Tensor, Convolution]:
    """A transposed convolution as the ordinary one that it is, with the kernel flipped: its input with zeros in between."""
    wide = x.new_zeros(*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], conv.stride, strict=True)))
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in conv.stride))] = x
    padding = tuple(d * (k - 1) - p for d, k, p in zip(conv.dilation, kernel, conv.padding, strict=True))
    return wide, Convolution((1,) * len(kernel), padding, conv.dilation, conv.groups, trailing=conv.trailing)


def _spread(size: int, positions: int) -> Tensor:
    """At most `positions` of the indices below `size`, evenly spaced."""
    return torch.arange(min(size, positions)) * size // max(1, min(size, positions))

"""Products with zeros are left out: what a masked model computes, at the price of the small one.

Where a row or column of a factor is zero all over, its products are zero for any finite numbers of the other factor. Where that
is not finite (zero times infinity is no number) nothing is left out. Zeros are found by looking at the numbers and at nothing
else; a weight with borrowed numbers has no zeros but those that it was filled with, and knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from pomona.graph.borrowed import Borrowed
from pomona.native.alive import alive
from pomona.native.picked import picked

WORTH = 256  # rows that a weight must meet: for fewer, looking at the weight costs what it saves
LOOK = 8  # rows that say which columns may be zero


def living(x: Tensor, dim: int, across: int) -> Tensor | None:
    """Positions along a dimension where not all numbers are zero; None where that is nearly everywhere.

    `across` is a dimension of which the first entries say whether it is worth looking further.
    """
    few = x.narrow(across, 0, min(LOOK, x.shape[across]))
    return None if _most(_any(few, dim)) is None else _most(_any(x, dim))


def _most(alive: Tensor) -> Tensor | None:
    """Which positions are alive; None where these are nearly all, so that nothing would be gained."""
    return None if 8 * int((~alive).sum()) < len(alive) else alive.nonzero().flatten()


def _any(x: Tensor, dim: int) -> Tensor:
    return x.any(dim=[d for d in range(x.dim()) if d != dim]) if x.dim() > 1 else x.bool()


def _finite(*tensors: Tensor) -> bool:
    """Whether all numbers are; a sum that overflows counts as not."""
    return all(bool(x.sum().isfinite()) for x in tensors)


def _linear(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """(rows, in) @ (in, out); None where nothing can be left out."""
    if len(a) < WORTH or min(b.shape) < LOOK:
        return None
    weight = b.t()  # as layers hold it
    lives = _lives_of(weight)
    if lives is None:
        return None
    out, into = (_most(x) for x in lives)
    if (into is None and out is None) or not _finite(a):
        return None
    rows, back = None, None
    if out is not None:
        # One dead row comes along: its results, which are zero, are read at the places of all dead ones.
        back = torch.full((len(weight),), len(out), device=out.device).index_copy_(
            0, out, torch.arange(len(out), device=out.device)
        )
        dead = (back == len(out)).nonzero().flatten()
        rows = torch.cat([out, dead[:1]])
    weight = weight.picked(rows, into) if isinstance(weight, Borrowed) else picked(weight, rows, into)
    a = a if into is None else picked(a, None, into)
    # Where the dead have biases, each its own, these are added when all results are in their places.
    late = bias if bias is not None and rows is not None and bool(bias[dead].any()) else None
    early = None if late is not None or bias is None else bias if rows is None else bias[rows]
    found = a @ weight.t() if early is None else torch.addmm(early, a, weight.t())
    found = found if back is None else picked(found, None, back)
    return found if late is None else found.add_(late)


def _lives_of(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Bool (rows,) and (columns,): where not all numbers are zero; None where that is nearly everywhere at first sight."""
    if isinstance(weight, Borrowed):
        return weight.living()
    if living(weight[:LOOK], 1, 0) is None and living(weight[:, :LOOK], 0, 1) is None:
        return None
    return alive(weight)


def _mm(a: Tensor, b: Tensor) -> Tensor | None:
    return _linear(a, b)


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor | None:
    return _linear(a, b, bias) if bias.dim() == 1 and len(bias) == b.shape[1] and beta == alpha == 1 else None


def _bmm(a: Tensor, b: Tensor) -> Tensor | None:
    """One product after the other, without those of a head that is zero."""
    if a.shape[1] < WORTH or not len(a):
        return None
    alive = [x for x in (living(a, 0, 1), living(b, 0, 1)) if x is not None]
    if not alive or not _finite(a, b):
        return None
    out = a.new_zeros(len(a), a.shape[1], b.shape[2])
    for number in set.intersection(*(set(x.tolist()) for x in alive)):
        torch.mm(a[number], b[number], out=out[number])
    return out


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor] | None:
    """(batch, heads, length, width): what weighs values that are zero has no say. The second answer is for gradients only."""
    if attn_mask is not None or dropout or q.shape[1] != v.shape[1] or q.shape[2] < WORTH:
        return None
    if all(_most(alive) is None for alive in _lives(*_sums(x[:, :, :LOOK] for x in (q, k, v)))):
        return None
    sums = _sums((q, k, v))
    heads, asking, told = (_most(alive) for alive in _lives(*sums))
    width = q.shape[3]
    narrow = max(width if x is None else len(x) for x in (asking, told))  # the kernel wants them equal
    if (heads is None and narrow == width) or not narrow or (heads is not None and not len(heads)) or not _finite(*sums):
        return None
    asking, told = (_filled(x, narrow, width) for x in (asking, told))
    given = (_picked(x, heads)[..., at] for x, at in ((q, asking), (k, asking), (v, told)))
    found, _ = _FLASH(*(_lying_as(x, q) for x in given), dropout, causal, scale=width**-0.5 if scale is None else scale)
    full = _lying_as(q.new_zeros(*found.shape[:3], v.shape[3]), found).index_copy_(3, told, found)
    out = full if heads is None else _lying_as(q.new_zeros(*q.shape[:3], v.shape[3]), found).index_copy_(1, heads, full)
    return out, q.new_full(q.shape[:3], torch.nan)


def _sums(heads: Iterable[Tensor]) -> list[Tensor]:
    """Sums of sizes over the length, (batch, heads, width): one reading tells what is zero all over and what is not finite."""
    return [x.abs().sum(2) for x in heads]


def _lives(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heads that say something; in these, numbers that have a share in a product of queries and keys, and those that are said.

    Of sums of sizes.
    """
    asked, answered, said = (x.any(0) for x in (q, k, v))  # (heads, width)
    heads = said.any(1)
    return heads, (asked & answered)[heads].any(0), said[heads].any(0)


def _filled(at: Tensor | None, many: int, length: int) -> Tensor:
    """So many positions, those that must be among them first."""
    first = torch.arange(length) if at is None else at
    rest = torch.ones(length, dtype=torch.bool).index_fill_(0, first, False).nonzero().flatten()
    return torch.cat([first, rest])[:many].sort().values


def _picked(x: Tensor, heads: Tensor | None) -> Tensor:
    return x if heads is None else x.index_select(1, heads)


def _lying_as(x: Tensor, like: Tensor) -> Tensor:
    """The same numbers, heads before or behind the length in memory: the kernel's answer lies as its queries do."""
    return x.contiguous() if like.is_contiguous() else x.transpose(1, 2).contiguous().transpose(1, 2)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    """Dense ones, and those that take every channel by itself."""
    alone, channels = groups == x.shape[1] == len(weight) > 1, len(weight)
    places = x.shape[0] * prod(x.shape[2:]) // max(1, prod(stride))
    if transposed or x.dim() != weight.dim() or not x.is_contiguous() or places < WORTH or (groups != 1 and not alone):
        return None
    out = living(weight, 0, 1)
    into = out if alone else living(weight, 1, 0)
    if (into is None and out is None) or not _finite(x):
        return None
    weight = weight if out is None else weight.index_select(0, out)
    weight = weight if into is None or alone else weight.index_select(1, into)
    x = x if into is None else x.index_select(1, into)
    if not x.shape[1] or not len(weight):
        return None
    groups = len(weight) if alone else 1
    found = torch.convolution(x, weight, None, stride, padding, dilation, transposed, output_padding, groups)
    if out is not None:
        found = found.new_zeros(len(found), channels, *found.shape[2:]).index_copy_(1, out, found)
    return found if bias is None else found.add_(bias.view(-1, *(1,) * (found.dim() - 2)))


_ATEN = torch.ops.aten
_FLASH = _ATEN._scaled_dot_product_flash_attention_for_cpu.default
LEAN: Mapping[Any, Callable[..., Any]] = {
    _ATEN.mm.default: _mm,
    _ATEN.addmm.default: _addmm,
    _ATEN.bmm.default: _bmm,
    _ATEN.convolution.default: _convolution,
    _FLASH: _attention,
}

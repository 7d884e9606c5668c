"""The product with a weight in spans, in Triton. Imported only where there is something to run it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_SPAN = tl.constexpr(512)
_BATCH = tl.constexpr(16)  # rows of x that tensor cores take, whether there are so many or not


def launch(
    x: Tensor, bias: Tensor | None, bits: Tensor, living: Tensor, starts: Tensor, tall: int, parts: int
) -> Tensor:  # fmt: skip
    """X W^T + bias for contiguous x (1 to 16, columns) and the parts of checked `Spans`, summed in float32.

    A program computes `tall` (4, 8, 16 or 32) outputs from one of `parts` shares of the spans. With several parts there are more
    programs and their sums are added in order: the same result each time.
    """
    spans, rows, _ = bits.shape
    batch, columns = x.shape
    parts = min(parts, spans)
    tall = tall if batch == 1 else max(tall, 16)  # what tensor cores take, for a layer whose division was chosen for one row
    whole = parts == 1
    y = x.new_empty((batch, rows)) if whole else x.new_empty((parts, batch, rows), dtype=torch.float32)
    grid = (triton.cdiv(rows, tall), parts)
    given = (x, bias, bits, living, starts, y, rows, batch, columns, spans, triton.cdiv(spans, parts))
    if batch == 1:
        _one[grid](*given, TALL=tall, BIAS=whole and bias is not None, num_warps=max(1, tall // 4))
    else:
        _few[grid](*given, TALL=tall, BIAS=whole and bias is not None, num_warps=max(1, tall // 16))
    if whole:
        return y
    total = y.sum(0)
    return (total if bias is None else total + bias.float()).to(x.dtype)


@triton.jit  # type: ignore[untyped-decorator]
def _one(
    x: tl.tensor,
    bias: tl.tensor,
    bits: tl.tensor,
    living: tl.tensor,
    starts: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    batch: tl.tensor,
    columns: tl.tensor,
    spans: tl.tensor,
    each: tl.tensor,
    TALL: tl.constexpr,
    BIAS: tl.constexpr,
) -> None:
    """One row of x. Sixteen words of each row at a time, every lane with four columns of each row: no sums between lanes."""
    row = tl.program_id(0) * TALL + tl.arange(0, TALL)
    part = tl.program_id(1)
    here = row < rows
    word = tl.arange(0, 16)
    column = word[:, None] * 32 + tl.arange(0, 8)[None, :] * 4
    total = tl.zeros((TALL, 16, 8), tl.float32)
    for span in range(part * each, tl.minimum(spans, part * each + each)):
        at = span * rows + row
        first = tl.load(starts + at, mask=here, other=0)
        mask = tl.load(bits + at[:, None] * 16 + word[None, :], mask=here[:, None], other=0).to(tl.uint32, bitcast=True)
        four, a, b, c, d = _begun(living, mask, first)
        a, b, c, d = a.to(tl.float32), b.to(tl.float32), c.to(tl.float32), d.to(tl.float32)
        for lane in tl.static_range(4):
            beside = span * _SPAN + column + lane
            some = tl.load(x + beside, mask=beside < columns, other=0.0).to(tl.float32)[None, :, :]
            lives = (four & (1 << lane)) != 0
            total = tl.where(lives, total + a * some, total)
            a, b, c = tl.where(lives, b, a), tl.where(lives, c, b), tl.where(lives, d, c)
    found = tl.sum(tl.sum(total, 2), 1)
    if BIAS:
        found += tl.load(bias + row, mask=here, other=0.0).to(tl.float32)
    tl.store(y + part * rows + row, found, mask=here)


@triton.jit  # type: ignore[untyped-decorator]
def _few(
    x: tl.tensor,
    bias: tl.tensor,
    bits: tl.tensor,
    living: tl.tensor,
    starts: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    batch: tl.tensor,
    columns: tl.tensor,
    spans: tl.tensor,
    each: tl.tensor,
    TALL: tl.constexpr,
    BIAS: tl.constexpr,
) -> None:
    """Two to sixteen rows of x, on tensor cores. Four words of each row at a time, made dense in registers."""
    row = tl.program_id(0) * TALL + tl.arange(0, TALL)
    part = tl.program_id(1)
    here = row < rows
    word = tl.arange(0, 4)
    line = tl.arange(0, _BATCH)
    total = tl.zeros((TALL, _BATCH), tl.float32)
    for span in range(part * each, tl.minimum(spans, part * each + each)):
        at = span * rows + row
        first = tl.load(starts + at, mask=here, other=0)
        for step in range(4):
            place = at[:, None] * 16 + (step * 4 + word)[None, :]
            mask = tl.load(bits + place, mask=here[:, None], other=0).to(tl.uint32, bitcast=True)
            a, b, c, d = _quads(living, mask, first)
            first += tl.sum(_popcount(mask), 1)
            weight = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (TALL, 128))  # in the order of the columns
            column = span * _SPAN + step * 128 + tl.arange(0, 128)
            inside = (line[:, None] < batch) & (column[None, :] < columns)
            some = tl.load(x + line[:, None] * columns + column[None, :], mask=inside, other=0.0)
            total = tl.dot(weight, tl.trans(some), total)
    if BIAS:
        total += tl.load(bias + row, mask=here, other=0.0).to(tl.float32)[:, None]
    tl.store(y + (part * batch + line[None, :]) * rows + row[:, None], total, mask=here[:, None] & (line[None, :] < batch))


@triton.jit  # type: ignore[untyped-decorator]
def _quads(living: tl.tensor, mask: tl.tensor, first: tl.tensor) -> tuple[tl.tensor, ...]:
    """The weights of four columns side by side, as four tensors (rows, words, 8)."""
    four, a, b, c, d = _begun(living, mask, first)
    lives = (four & 1) != 0
    w0 = tl.where(lives, a, 0.0)
    a, b, c = tl.where(lives, b, a), tl.where(lives, c, b), tl.where(lives, d, c)
    lives = (four & 2) != 0
    w1 = tl.where(lives, a, 0.0)
    a, b = tl.where(lives, b, a), tl.where(lives, c, b)
    lives = (four & 4) != 0
    w2 = tl.where(lives, a, 0.0)
    a = tl.where(lives, b, a)
    return w0, w1, w2, tl.where((four & 8) != 0, a, 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _begun(living: tl.tensor, mask: tl.tensor, first: tl.tensor) -> tuple[tl.tensor, ...]:
    """Which of four columns live, in the lowest bits, and four values from where theirs begin: (rows, words, 8) each.

    From bits (rows, words) and where each row's values begin. The four are always read: the next living column takes the next of
    them, and one address and six selections cost less than four addresses. What is read in vain is the neighbours'.
    """
    count = _popcount(mask)
    before = first[:, None] + tl.cumsum(count, 1) - count
    shift = (tl.arange(0, 8) * 4).to(tl.uint32)[None, None, :]
    bits = mask[:, :, None]
    at = living + (before[:, :, None] + _popcount(bits & ((1 << shift) - 1)))
    return bits >> shift, tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)


@triton.jit  # type: ignore[untyped-decorator]
def _popcount(bits: tl.tensor) -> tl.tensor:
    """How many bits of a uint32 are set; compilers know this pattern and make one instruction of it."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)

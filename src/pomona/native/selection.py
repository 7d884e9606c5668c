"""The exact k-th smallest of many tensors, which are never joined, copied or sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from pomona.native.buffers import array, real, size
from pomona.native.library import library, threads_of
from pomona.vocabulary import InputError

_INFINITY = 0x7F800000  # the place of +inf: floats in order, as integers
_BINS = 2048
_SAMPLE = 1 << 17
_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Threshold:
    """A value, and by tensor how many lie `under` it and how many are `level` with it, int64 (tensors,)."""

    value: float
    under: Tensor
    level: Tensor

    def leaving(self, k: int) -> Tensor:
        """How many of each tensor are among the k smallest; of equals those of the first tensors. int64 (tensors,)."""
        extra, before = k - self.under.sum(), self.level.cumsum(0) - self.level
        return self.under + (extra - before).clamp(min=0).minimum(self.level)


def smallest(tensors: Sequence[Tensor], k: int, *, absolute: bool = False, threads: int | None = None) -> Threshold:
    """The k-th smallest value of all tensors together, counted from 1, or with `absolute` that of |value|.

    Tensors are float32, float16 or bfloat16 on the CPU, of any shapes; extra memory is some 16 kB a tensor and a few MB. The
    same for any number of threads. Raises InputError for NaN, for other dtypes and for a k that there is not.

    >>> found = smallest([torch.tensor([3.0, -1.0]), torch.tensor([1.0, 2.0])], 2, absolute=True)
    >>> found.value, found.leaving(1).tolist()
    (1.0, [1, 0])
    """
    total = sum(tensor.numel() for tensor in tensors)
    if not 1 <= k <= total:
        raise InputError(f"There is no value number {k} among {total}.")
    return least(tensors, lambda counts: int(counts.sum()) >= k, absolute=absolute, threads=threads)


def least(
    tensors: Sequence[Tensor],
    enough: Callable[[Tensor], bool],
    *,
    absolute: bool = False,
    threads: int | None = None,
) -> Threshold:
    """The least value such that it is `enough` when all at or below it leave; as `smallest` otherwise.

    `enough` is asked some sixty times, with how many leave each tensor, int64 (tensors,). It must be false of nobody, true of
    all and never true of fewer where it is false of more.
    """
    flat, threads = [_checked(tensor) for tensor in tensors], threads_of(threads)
    sizes = torch.tensor([len(values) for values in flat])
    # All at or below `few` are not enough, all at or below `many` are; every pass over the values narrows what is between.
    few, many = -_INFINITY - 1, _INFINITY
    before = under = torch.zeros_like(sizes)
    within = sizes
    if int(sizes.sum()) > 8 * _SAMPLE:
        low, high = _guessed(flat, sizes, enough, absolute)
        if (found := _near(flat, low, high, absolute, threads)) is not None:
            below, near = found
            reached = below + torch.tensor([len(values) for values in near])
            if not enough(below) and enough(reached):  # else the guess was wrong, and all values are counted
                few, many, flat, before, under, within = low - 1, high, near, below, below, reached
    while many - few > 1:
        counts, step = _counted(flat, few + 1, many, absolute, threads)
        counts, low, high = counts + before[:, None], few, many
        first = _first(counts.shape[1], lambda i, counts=counts: enough(counts[:, i]))  # type: ignore[misc]
        if first < counts.shape[1]:
            many, within = min(low + first * step, high), counts[:, first]
        if first > 0:
            few, under = low + (first - 1) * step, counts[:, first - 1]
    return Threshold(value_at(many), under, within - under)


def value_at(place: int) -> float:
    """The float32 at this place of the order of all float32; -0.0 and 0.0 share place 0."""
    bits = place if place >= 0 else -place - 0x80000000
    return float(torch.tensor([bits], dtype=torch.int32).view(torch.float32))


def place_of(value: float) -> int:
    """The inverse of `value_at`."""
    return int(_places(torch.tensor([value], dtype=torch.float32)))


def _places(values: Tensor) -> Tensor:
    bits = values.view(torch.int32)
    return torch.where(bits >= 0, bits, -0x80000000 - bits)


def _checked(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16) or tensor.device.type != "cpu":
        raise InputError(
            f"Values to select from are float32, float16 or bfloat16 on the CPU; got {tensor.dtype}, {tensor.device}."
        )
    return tensor.detach().reshape(-1)


def _first(number: int, claim: Callable[[int], bool]) -> int:
    """The first of so many that the claim is true of, which it then is of all after it; `number` where there is none."""
    low, high = 0, number
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if claim(middle) else (middle + 1, high)
    return low


def _guessed(flat: Sequence[Tensor], sizes: Tensor, enough: Callable[[Tensor], bool], absolute: bool) -> tuple[int, int]:
    """Places between which the answer is all but certain to be: those of a sample's, four deviations away to both sides."""
    step = int(sizes.sum()) // _SAMPLE | 1  # odd: rows and channels are even
    samples = [_sample(values, step) for values in flat]
    drawn = torch.tensor([max(1, len(sample)) for sample in samples])
    about = least(samples, lambda counts: enough(counts * sizes // drawn), absolute=absolute, threads=1)
    pooled, at, margin = torch.cat(samples), int(about.under.sum()), 2 * isqrt(int(drawn.sum()))
    low, high = -_INFINITY, _INFINITY
    if at > margin:
        low = place_of(smallest([pooled], at - margin, absolute=absolute, threads=1).value)
    if at + margin < len(pooled):
        high = place_of(smallest([pooled], at + margin, absolute=absolute, threads=1).value)
    return low, high


def _sample(values: Tensor, step: int) -> Tensor:
    """One of `step` values, float32; four neighbours each time where there are enough, since they come with one another."""
    whole = len(values) // (4 * step) * 4 * step
    return (values[:whole].view(-1, 4 * step)[:, :4] if whole else values[::step]).float().flatten()


def _near(flat: Sequence[Tensor], low: int, high: int, absolute: bool, threads: int) -> tuple[Tensor, list[Tensor]] | None:
    """By tensor how many values are below the place `low`, and those from there to `high`, in any order.

    None where these are so many of some tensor that holding them would cost too much.
    """
    under, near = [], []
    for values in flat:
        below, found = 0, [torch.empty(0)]
        for part in _parts(values):
            counts, out = torch.zeros(2, dtype=torch.int64), torch.empty(len(part) // 8 + _BINS)
            _within(part.contiguous(), value_at(low), value_at(high), absolute, out, counts, threads)
            if counts[1] > len(out):
                return None
            below += int(counts[0])
            found.append(out[: counts[1]].clone())
        under.append(below)
        near.append(torch.cat(found))
    return torch.tensor(under), near


def _within(part: Tensor, low: float, high: float, absolute: bool, out: Tensor, counts: Tensor, threads: int) -> None:
    """As the kernel `selection_within`."""
    kernel = library().kernel("selection_within")
    if kernel is None:
        own = part.abs() if absolute else part
        strange = bool(own.isnan().any())
        found = own[(own >= low) & (own <= high)]
        counts += torch.stack([(own < low).sum(), torch.tensor(len(found))])
        out[: len(found)] = found[: len(out)]
    else:
        strange = bool(kernel(
            array(part, torch.float32, (-1,), "values"), size(len(part)), int(absolute), real(low), real(high),
            array(out, torch.float32, (-1,), "out"), size(len(out)), array(counts, torch.int64, (2,), "counts"), threads,
        ))  # fmt: skip
    if strange:
        raise unranked()


def _counted(flat: Sequence[Tensor], low: int, high: int, absolute: bool, threads: int) -> tuple[Tensor, int]:
    """How many values of each tensor are at or below places from `low` - 1 on, a step apart, up to `high`; and the step."""
    shift = max(0, (high - low).bit_length() - _BINS.bit_length() + 1)
    number = ((high - low) >> shift) + 1
    counts = torch.zeros(len(flat), 1 + number, dtype=torch.int64)
    for values, row in zip(flat, counts, strict=True):
        for part in _parts(values):
            _count(part.contiguous(), low, high, shift, absolute, row, threads)
    return counts.cumsum(1), 1 << shift


def _parts(values: Tensor) -> Iterator[Tensor]:
    """Float32 values, a few at a time where that spares memory."""
    if library().isa is not None and values.dtype == torch.float32:
        yield values
    else:
        yield from (part.float() for part in torch.split(values, _AT_ONCE))


def _count(part: Tensor, low: int, high: int, shift: int, absolute: bool, counts: Tensor, threads: int) -> None:
    """As the kernel `selection_count`."""
    kernel = library().kernel("selection_count")
    if kernel is None:
        places = _places(part.abs() if absolute else part)
        strange = bool(part.isnan().any())
        counts[0] += (places < low).sum()
        inside = places[(places >= low) & (places <= high)].long()
        counts[1:] += torch.bincount((inside - low) >> shift, minlength=len(counts) - 1)
    else:
        strange = bool(kernel(
            array(part, torch.float32, (-1,), "values"), size(len(part)), int(absolute), low, high, shift,
            array(counts, torch.int64, (-1,), "counts"), threads,
        ))  # fmt: skip
    if strange:
        raise unranked()


def unranked() -> InputError:
    """What to raise."""
    return InputError("There is NaN among the values to choose from, which is neither large nor small.")

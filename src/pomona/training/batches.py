"""The data of a run, epoch by epoch, in an order that a resumed run sees again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pomona.vocabulary import Batch, InputError, generator


def of_epoch(data: Iterable[Any], epoch: int, seed: int) -> Iterator[Batch]:
    """The batches of one epoch. The same seed and epoch give the same order.

    Data that offer `at(epoch)` are asked for it, data with `set_epoch(epoch)` (samplers too) are told; a generator that
    a loader or its sampler holds is seeded. What draws from torch's global generator follows the seed that `fit` sets.
    """
    source = data.at(epoch) if hasattr(data, "at") else data
    holders: tuple[Any, ...] = (data, getattr(data, "sampler", None))
    for holder in holders:
        if hasattr(holder, "set_epoch"):
            holder.set_epoch(epoch)
        if isinstance(getattr(holder, "generator", None), torch.Generator):
            holder.generator.manual_seed(generator(seed, epoch).initial_seed())
    for raw in source:
        yield Batch.of(raw)


@contextmanager
def seeded(seed: int, *salt: int) -> Iterator[None]:
    """Within it torch's global generator runs from this seed; afterwards it goes on as if nothing had been."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(generator(seed, *salt).initial_seed())
        yield


def length(data: Iterable[Any]) -> int:
    """Batches an epoch; data without a length are read once to count. Raises InputError if there are none."""
    source: Any = data.at(0) if hasattr(data, "at") else data
    count = len(source) if hasattr(source, "__len__") else sum(1 for _ in source)
    if count == 0:
        raise InputError("The training data hold no batches; give at least one.")
    return count


def onto(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return Batch(*(_onto(part, device) for part in (batch.args, batch.kwargs, batch.target, batch.mask)))


def _onto(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _onto(entry, device) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_onto(entry, device) for entry in value)
    return value

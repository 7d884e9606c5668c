"""How one process hands a value to all others: the tree as a message, its tensors as bytes behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from pomona.processes.ending import Lost
from pomona.vocabulary import first_line
from pomona.vocabulary.bits import pack, unpack

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class _Bare:
    """A tensor that is still to come."""

    shape: torch.Size
    dtype: torch.dtype


def _or_lost(exchange: Callable[P, T]) -> Callable[P, T]:
    """What the backend raises where a peer is gone or silent, as an error of ours."""

    @functools.wraps(exchange)
    def exchanged(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return exchange(*args, **kwargs)
        except RuntimeError as error:
            raise Lost(
                "Another process of this run ended or did not answer, so this one cannot go on; start the run again, with "
                f"--checkpoint it goes on behind its last block ({first_line(error)})."
            ) from error

    return exchanged


@_or_lost
def sent(value: T, group: dist.ProcessGroup) -> T:
    """Hand a tree of tensors and plain values to all others, who call `received`; the value itself comes back."""
    head = [tree_map(lambda leaf: _Bare(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf, value)]
    source = dist.get_rank(group)
    dist.broadcast_object_list(head, group_src=source, group=group)
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.numel():
            plain = leaf.detach().cpu()
            dist.broadcast(_bytes(pack(plain) if leaf.dtype == torch.bool else plain), group_src=source, group=group)
    return value


@_or_lost
def received(source: int, group: dist.ProcessGroup, device: torch.device) -> Any:
    """What the process of this rank has `sent`, with its tensors on `device`."""
    head: list[Any] = [None]
    dist.broadcast_object_list(head, group_src=source, group=group)

    def filled(leaf: Any) -> Any:
        if not isinstance(leaf, _Bare):
            return leaf
        if leaf.dtype != torch.bool:
            return _filled(torch.empty(leaf.shape, dtype=leaf.dtype), source, group).to(device)
        packed = torch.empty(-(-leaf.shape.numel() // 8), dtype=torch.uint8)
        return unpack(_filled(packed, source, group), tuple(leaf.shape)).to(device)

    return tree_map(filled, head[0])


@_or_lost
def gathered(value: T, group: dist.ProcessGroup) -> list[T]:
    """What every process gives, in the order of ranks: plain values only."""
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, value, group)
    return found


def _filled(empty: Tensor, source: int, group: dist.ProcessGroup) -> Tensor:
    if empty.numel():
        dist.broadcast(_bytes(empty), group_src=source, group=group)
    return empty


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of a tensor, whatever its type: backends know few types."""
    return tensor.contiguous().view(-1).view(torch.uint8)

"""Dataclasses that models take and give: torch looks into those that it has been told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree


def make_known(tree: Any) -> bool:
    """Tell torch of every dataclass among these inputs or outputs; whether there was a new one."""
    new = {type(record) for record in _records(tree)} - pytree.SUPPORTED_NODES.keys()
    for kind in new:
        torch.export.register_dataclass(kind)
    return bool(new)


def _records(tree: Any) -> Iterator[Any]:
    inner: Any = ()
    if is_dataclass(tree) and not isinstance(tree, type):
        yield tree
        inner = [getattr(tree, entry.name) for entry in fields(tree)]
    elif isinstance(tree, Mapping):
        inner = tree.values()
    elif isinstance(tree, (list, tuple)):
        inner = tree
    for value in inner:
        yield from _records(value)

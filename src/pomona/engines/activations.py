"""What a block gave for every batch, held once: in memory up to a budget, the rest in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pomona.vocabulary import room_for


@dataclass(frozen=True)
class _Leaf:
    """A tensor that lies in a file."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    offset: int


class Activations:
    """Outputs by (chain, batch), nested as the model nests them; a new one takes the place of the old.

    `budget` is how many bytes may stay in memory (None: all); what comes after it goes to files in `folder`. Plain files and
    not mapped ones: pages that are mapped count as memory of the process until the system takes them back.
    """

    def __init__(self, budget: int | None = None, folder: Path | None = None) -> None:
        assert budget is None or folder is not None, "a budget needs a folder"
        self._budget, self._folder, self._held = budget, folder, 0
        self._kept: dict[tuple[int, int], tuple[list[Any], TreeSpec]] = {}

    @property
    def bounded(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    @property
    def bytes(self) -> int:
        """How much is in memory."""
        return self._held

    def put(self, key: tuple[int, int], tree: Any) -> None:
        """Keep a tree of tensors and plain values; raises InputError where the disk is full."""
        leaves, spec = tree_flatten(tree)
        old, _ = self._kept.get(key, ([], None))
        size = sum(map(_size, leaves))
        if self._budget is not None and self._held - sum(map(_size, old)) + size > self._budget:
            leaves = self._write(key, leaves)
        # A view would keep all of what it looks at.
        kept = [leaf.detach().clone() if isinstance(leaf, Tensor) and _is_view(leaf) else leaf for leaf in leaves]
        self._held += sum(map(_size, kept)) - sum(map(_size, old))
        self._kept[key] = kept, spec

    def get(self, key: tuple[int, int]) -> Any:
        """A copy: a block may write to what it is given."""
        leaves, spec = self._kept[key]
        return tree_unflatten([self._read(key, leaf) for leaf in leaves], spec)

    def _write(self, key: tuple[int, int], leaves: list[Any]) -> list[Any]:
        kept, offset = [], 0
        path = self._path(key)
        with room_for(path.parent), path.open("wb") as file:
            for leaf in leaves:
                if isinstance(leaf, Tensor):
                    flat = leaf.detach().cpu().contiguous().view(-1).view(torch.uint8)
                    file.write(flat.numpy().data)
                    kept.append(_Leaf(leaf.shape, leaf.dtype, leaf.device, offset))
                    offset += len(flat)
                else:
                    kept.append(leaf)
        return kept

    def _read(self, key: tuple[int, int], leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.clone()
        if not isinstance(leaf, _Leaf):
            return leaf
        made = torch.empty(leaf.shape, dtype=leaf.dtype)
        with self._path(key).open("rb") as file:
            file.seek(leaf.offset)
            file.readinto(made.view(-1).view(torch.uint8).numpy().data)
        return made.to(leaf.device)

    def _path(self, key: tuple[int, int]) -> Path:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"outputs-{key[0]}-{key[1]:05d}.bin"


def _size(leaf: Any) -> int:
    return leaf.numel() * leaf.element_size() if isinstance(leaf, Tensor) else 0


def _is_view(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > _size(tensor)

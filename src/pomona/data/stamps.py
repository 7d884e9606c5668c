"""Photographs with a transparent background from Debian's tuxpaint-stamps-default (GPL-2), put on white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.data.cache import debian_package
from pomona.data.data import Data
from pomona.data.loaders import split
from pomona.data.pictures import PictureLoader, Pixels, import_pillow

_DRAWN = ("cartoon", "mirror", "symbols/", "flags")  # folders of drawings, not photographs


@dataclass(frozen=True)
class OnWhite(Pixels):
    """A cut-out photograph in the middle of a white square, a tenth wider than its longer side."""

    def __call__(self, path: Path) -> Tensor:
        """float32 (3, size, size)."""
        image_type = import_pillow()
        with image_type.open(path) as opened:
            image = opened.convert("RGBA")
        side = int(max(image.size) * 1.1)
        square = image_type.new("RGBA", (side, side), (255, 255, 255, 255))
        square.alpha_composite(image, ((side - image.size[0]) // 2, (side - image.size[1]) // 2))
        return self.normalised(square.convert("RGB"))


def stamps(pixels: Mapping[str, Any] | None = None, batch: int = 32, seed: int = 0) -> Data:
    """Some 420 photographs of animals, food and things, unlabelled: to follow a dense model on; a fifth is held out.

    Fetches 161 MB once; raises Unreachable where Debian's packages cannot be had.
    """
    root = debian_package("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    files = sorted(f for f in root.rglob("*.png") if not any(word in f"{f.relative_to(root)}" for word in _DRAWN))
    prepare = OnWhite(**dict(pixels or {}))
    learn, test = split(len(files), seed)
    nothing = torch.zeros(len(files), dtype=torch.int64)
    train, held = (PictureLoader([files[i] for i in rows.tolist()], nothing[rows], prepare, batch) for rows in (learn, test))
    return Data(Unlabelled(train), Unlabelled(held), "agreement", "stamps")


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The pictures of a loader without its labels, decoded once and kept."""

    loader: PictureLoader

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.loader)

    def __iter__(self) -> Any:
        if not hasattr(self, "_kept"):
            object.__setattr__(self, "_kept", [x for x, _ in self.loader])
        return iter(self._kept)  # type: ignore[attr-defined]

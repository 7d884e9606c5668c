"""Pictures in folders: decoded while iterating, so a set may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomona.data.data import Data
from pomona.data.loaders import order, pieces, split
from pomona.vocabulary import InputError

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes an input: the middle `crop` of its shorter side, `size` squared, (value - mean) / std.

    `mean` and `std` are per channel, of values in [0, 1]. The defaults are those of most ImageNet models.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = 0.875
    channels: int = 3

    def __call__(self, path: Path) -> Tensor:
        """float32 (channels, size, size); raises InputError on a file that is no picture."""
        image_type = import_pillow()
        try:
            with image_type.open(path) as opened:
                image = opened.convert("RGB" if self.channels == 3 else "L")
        except OSError as error:
            raise InputError(f"{path} is not a readable picture ({error}).") from None
        side = max(1, int(min(image.size) * self.crop))
        left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
        return self.normalised(image.crop((left, top, left + side, top + side)))

    def normalised(self, square: Any) -> Tensor:
        """A square picture with as many channels as wanted, scaled and normalised."""
        small = square.resize((self.size, self.size), import_pillow().Resampling.BICUBIC)
        x = torch.from_numpy(np.array(small, dtype=np.float32) / 255).view(self.size, self.size, self.channels).permute(2, 0, 1)
        mean, std = (torch.tensor(v[: self.channels])[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


@dataclass(frozen=True, eq=False)
class PictureLoader:
    """(x, y) batches of picture files, decoded as they come."""

    files: Sequence[Path]
    labels: Tensor
    pixels: Pixels
    batch: int = 32
    seed: int | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.files) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in pieces(order(len(self.files), self.seed), self.batch):
            yield torch.stack([self.pixels(self.files[i]) for i in rows.tolist()]), self.labels[rows]


def load_folder(folder: Path, pixels: Mapping[str, Any] | None, batch: int, seed: int) -> Data:
    """Data from `folder/CLASS/picture`, a fifth held out, or from `folder/train/CLASS` and `folder/test/CLASS` (or `val`).

    Labels count the class folders in the order of their names; where all names are whole numbers, they are the labels
    themselves, so that a few classes of a large model can be measured. Raises InputError where there are no pictures.
    """
    prepare = Pixels(**dict(pixels or {}))
    notes = () if pixels else (f"Pictures of {folder} are scaled to {prepare.size} pixels and normalised as for ImageNet.",)
    held = next((folder / name for name in ("test", "val", "validation") if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and held is not None:
        names = _class_names(folder / "train")
        halves = [_listed(folder / "train", names), _listed(held, names)]
    else:
        names = _class_names(folder)
        files, labels = _listed(folder, names)
        halves = [([files[i] for i in rows.tolist()], labels[rows]) for rows in split(len(files), seed)]
    if not all(files for files, _ in halves):
        raise InputError(
            f"{folder} has too few pictures; put at least two into a folder for each class, like {folder}/cat/1.jpg."
        )
    (learn, learn_labels), (test, test_labels) = halves
    train = PictureLoader(learn, learn_labels, prepare, batch, seed)
    classes = () if _numbered(names) else tuple(names)
    return Data(train, PictureLoader(test, test_labels, prepare, batch), "accuracy", folder.name, classes, notes)


def import_pillow() -> Any:
    """PIL.Image; InputError with the pip line when Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("Reading pictures needs Pillow: pip install pillow.") from None
    return Image


def _class_names(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise InputError(f"{folder} has no class folders; put pictures like {folder}/cat/1.jpg.")
    return sorted(names, key=int) if _numbered(names) else names


def _numbered(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _listed(folder: Path, names: Sequence[str]) -> tuple[list[Path], Tensor]:
    unknown = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in names)
    if unknown:
        raise InputError(
            f"{folder / unknown[0]} is a class that the training pictures do not have; they have {', '.join(names[:5])}."
        )
    label = {name: int(name) if _numbered(names) else number for number, name in enumerate(names)}
    files, labels = [], []
    for name in names:
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)
        files += found
        labels += [label[name]] * len(found)
    return files, torch.tensor(labels, dtype=torch.int64)

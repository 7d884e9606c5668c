"""Fashion-MNIST (Xiao et al., 2017), and the digits that stand in for it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pomona.data.cache import Unreachable, debian_package
from pomona.data.checks import check_arrays
from pomona.data.data import Data
from pomona.data.loaders import ArrayLoader, split
from pomona.vocabulary import InputError

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
MEAN, STD = 0.2860, 0.3530  # of the training pictures


def fashion_mnist(batch: int = 128, seed: int = 0) -> Data:
    """60,000 + 10,000 pictures, float32 (n, 1, 28, 28), normalised; from Debian's dataset-fashion-mnist (31 MB, fetched once).

    Where that package cannot be fetched, scikit-learn's digits scaled to 28 x 28 stand in and a note says so.
    """
    try:
        folder = debian_package("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    except Unreachable as reason:
        note = f"Fashion-MNIST could not be fetched ({reason}); scikit-learn's 1,797 digits, scaled to 28 x 28, stand in for it."
        stand_in = digits(batch, seed, side=28)
        return Data(stand_in.train, stand_in.test, stand_in.metric, stand_in.name, stand_in.classes, (note,))
    return from_idx(folder, batch, seed)


def from_idx(folder: Path, batch: int, seed: int) -> Data:
    """Data from the four idx files of a set laid out like MNIST."""
    loaded = [
        read_idx(folder / f"{half}-{what}.gz")
        for half in ("train", "t10k")
        for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    x, y, x_test, y_test = loaded
    for images, labels, name in ((x, y, "the training half"), (x_test, y_test, "the test half")):
        check_arrays(images, labels, f"{name} of {folder}", len(CLASSES))
    train, test = ((((images.float() / 255) - MEAN) / STD)[:, None] for images in (x, x_test))
    return Data(
        ArrayLoader(train, y.long(), batch, seed), ArrayLoader(test, y_test.long(), 500), "accuracy", "fashion-mnist", CLASSES
    )


def read_idx(path: Path) -> Tensor:
    """One gzipped idx file of bytes as a uint8 tensor; raises InputError when it is truncated or something else."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it to fetch it again.") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise InputError(f"{path} is not an idx file of bytes.")
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4).astype(int) if len(raw) >= 4 + 4 * raw[3] else None
    if shape is None or len(raw) != 4 + 4 * raw[3] + int(shape.prod()):
        raise InputError(f"{path} is truncated; delete it to fetch it again.")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy())


def digits(batch: int = 64, seed: int = 0, side: int = 8) -> Data:
    """scikit-learn's 1,797 handwritten digits, float32 (n, 1, side, side), centred; a fifth is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("The digits come with scikit-learn: pip install scikit-learn.") from None
    found = load_digits()
    x = torch.from_numpy(found.images).float()[:, None] / 16
    if side != 8:
        x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    x, y = (x - x.mean()) / x.std(), torch.from_numpy(found.target).long()
    learn, test = split(len(x), seed)
    train, held = ArrayLoader(x[learn], y[learn], batch, seed), ArrayLoader(x[test], y[test], 500)
    return Data(train, held, "accuracy", "digits", tuple("0123456789"))

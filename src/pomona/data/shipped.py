"""Small labelled sets that Python packages ship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pomona.data.cache import package_folder
from pomona.data.data import Data
from pomona.data.pictures import PictureLoader, Pixels
from pomona.data.text import drawn_data, need_tokenizer, sentences, text_data


def foolbox_imagenet(pixels: Mapping[str, Any] | None = None, batch: int = 20) -> Data:
    """Twenty pictures of ImageNet classes with their class numbers, from foolbox. Too few to rank models: use agreement too.

    Train and test are the same pictures, which suits calibration without labels only.
    """
    files = sorted((package_folder("foolbox", "foolbox") / "data").glob("imagenet_*.jpg"))
    labels = torch.tensor([int(f.stem.rpartition("_")[2]) for f in files], dtype=torch.int64)
    loader = PictureLoader(files, labels, Pixels(**dict(pixels or {})), batch)
    note = "foolbox-imagenet has 20 pictures, the same for calibration and measuring: accuracy moves in steps of 5 points."
    return Data(loader, loader, "accuracy", "foolbox-imagenet", (), (note,))


def lee(tokenizer: Any, batch: int = 16) -> Data:
    """50 news documents and how alike people found all 1,225 pairs (Lee et al., 2005): Pearson correlation.

    Training batches are 300 other news documents, unrated: for calibration. From gensim.
    """
    need_tokenizer(tokenizer, "lee")
    folder = _gensim()
    documents, background = (_lines(folder / name) for name in ("lee.cor", "lee_background.cor"))
    people = torch.from_numpy(np.loadtxt(folder / "similarities0-1.txt", dtype=np.float64))
    pairs = torch.triu_indices(len(documents), len(documents), 1).T
    scores = people[pairs[:, 0], pairs[:, 1]]
    test = sentences(documents, tokenizer, batch, 256, pairs=pairs, scores=scores)
    return Data(sentences(background, tokenizer, batch, 256), test, "pearson", "lee")


def wordsim353(tokenizer: Any, batch: int = 64) -> Data:
    """353 pairs of words and how related people found them (Finkelstein et al., 2002): Spearman correlation.

    Training batches are the 300 news documents of `lee`, for calibration. From gensim.
    """
    need_tokenizer(tokenizer, "wordsim353")
    folder = _gensim()
    rows = [line.split("\t") for line in _lines(folder / "wordsim353.tsv") if not line.startswith("#")]
    words = sorted({word for row in rows for word in row[:2]})
    at = {word: number for number, word in enumerate(words)}
    pairs = torch.tensor([(at[a], at[b]) for a, b, _ in rows])
    scores = torch.tensor([float(score) for _, _, score in rows], dtype=torch.float64)
    test = sentences(words, tokenizer, batch, 256, pairs=pairs, scores=scores)
    return Data(sentences(_lines(folder / "lee_background.cor"), tokenizer, 16, 256), test, "spearman", "wordsim353")


def lee_text(tokenizer: Any, length: int, batch: int, seed: int, draws: int | None = None) -> Data:
    """The 300 news documents of `lee` as running text, about 80,000 tokens: perplexity. Or so many `draws` from them."""
    need_tokenizer(tokenizer, "lee-text")
    lines = _lines(_gensim() / "lee_background.cor")
    if draws is not None:
        return drawn_data(lines, "lee-text", tokenizer, length, batch, seed, draws)
    return text_data("\n\n".join(lines), "lee-text", tokenizer, length, batch, seed)


def _gensim() -> Path:
    return package_folder("gensim", "gensim") / "test/test_data"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]

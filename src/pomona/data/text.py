"""Text for language models: tokenised once, cut into windows of one length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.data.data import Data
from pomona.data.loaders import SentenceLoader, TokenLoader
from pomona.vocabulary import InputError


def load_text(path: Path, tokenizer: Any, length: int, batch: int, seed: int) -> Data:
    """Data from a `.txt` file, or from the field `text` of each line of a `.jsonl` file; the last fifth is for testing."""
    need_tokenizer(tokenizer, path.name)
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if path.suffix == ".jsonl":
        content = "\n\n".join(_line(line, number, path) for number, line in enumerate(content.splitlines(), 1) if line.strip())
    return text_data(content, path.name, tokenizer, length, batch, seed)


def text_data(content: str, name: str, tokenizer: Any, length: int, batch: int, seed: int) -> Data:
    """Data from one string: windows of `length` tokens, no overlap, no special tokens, the remainder dropped."""
    rows = windows(content, name, tokenizer, length)
    held = max(1, len(rows) // 5)
    return Data(TokenLoader(rows[:-held], batch, seed), TokenLoader(rows[-held:], batch), "perplexity", name)


def windows(content: str, name: str, tokenizer: Any, length: int) -> Tensor:
    """int64 (n, length); raises InputError when the text fills fewer than two windows."""
    if length < 2:
        raise InputError(f"A window of {length} tokens predicts nothing; use at least 2.")
    # Tokenised by paragraphs: a tokenizer warns about, and slows down on, one text longer than its model's reach.
    pieces = [p for p in content.split("\n\n") if p.strip()]
    encoded = tokenizer([p + "\n\n" for p in pieces], add_special_tokens=False, verbose=False)["input_ids"] if pieces else []
    ids = torch.tensor([i for row in encoded for i in row], dtype=torch.int64)
    if len(ids) < 2 * length:
        raise InputError(f"{name} has {len(ids)} tokens; windows of {length} need at least {2 * length}.")
    return ids[: len(ids) // length * length].view(-1, length)


def sentences(texts: list[str], tokenizer: Any, batch: int, longest: int, **rated: Tensor) -> SentenceLoader:
    """A loader of these texts, each cut at `longest` tokens; `rated` may give `pairs` and `scores`."""
    encoded = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
    return SentenceLoader(encoded, tokenizer.pad_token_id or 0, batch, **rated)


def need_tokenizer(tokenizer: Any, name: str) -> None:
    """Raise InputError when there is none."""
    if tokenizer is None:
        raise InputError(
            f"{name} is text and this model brought no tokenizer; use a transformers folder with one, or module:function data."
        )


def _line(line: str, number: int, path: Path) -> str:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"Line {number} of {path} is not JSON ({error.msg}).") from None
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise InputError(f"Line {number} of {path} has no string field 'text'.")
    text: str = entry["text"]
    return text

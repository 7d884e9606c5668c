"""Text for language models: tokenised once, cut into windows of one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.data.data import Data
from pomona.data.documents import documents
from pomona.data.loaders import SentenceLoader, TokenLoader
from pomona.vocabulary import InputError, generator

FEW = 5  # fewer documents than this cannot leave a fifth of themselves


class TooShort(InputError):
    """The text fills no two windows of this length; it may fill shorter ones."""


def load_text(path: Path, tokenizer: Any, length: int, batch: int, seed: int, draws: int | None = None) -> Data:
    """Data from the documents under `path`, all in windows or so many `draws` from them; the last fifth is for testing."""
    need_tokenizer(tokenizer, path.name)
    texts = documents(path, tokenizer)
    if draws is not None:
        return drawn_data(texts, path.name, tokenizer, length, batch, seed, draws)
    return text_data("\n\n".join(texts), path.name, tokenizer, length, batch, seed)


def text_data(content: str, name: str, tokenizer: Any, length: int, batch: int, seed: int) -> Data:
    """Data from one string: windows of `length` tokens, no overlap, no special tokens, the remainder dropped."""
    return token_data(encode(content, tokenizer), name, length, batch, seed)


def token_data(ids: Tensor, name: str, length: int, batch: int, seed: int) -> Data:
    """Data from tokens, int64 (n,) cut into windows or (n, length) as they are; the last fifth is for testing."""
    rows = windows(ids, name, length) if ids.dim() == 1 else ids
    held = max(1, len(rows) // 5)
    return Data(TokenLoader(rows[:-held], batch, seed), TokenLoader(rows[-held:], batch), "perplexity", name)


def drawn_data(texts: Sequence[str | Tensor], name: str, tokenizer: Any, length: int, batch: int, seed: int, draws: int) -> Data:
    """Data that learns from `draws` crops of documents, and is tested on windows of the last fifth of the documents.

    Fewer than five documents are taken as one, of whose tokens the last fifth is for testing.
    """
    if len(texts) < FEW:
        parts = [_ids(text, tokenizer) for text in texts]
        whole = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        texts = [whole[: len(whole) * (FEW - 1) // FEW], whole[len(whole) * (FEW - 1) // FEW :]]
    held = max(1, len(texts) // FEW)
    learn = crops(texts[:-held], tokenizer, draws, length, seed)
    test, missing = [], draws * length  # a corpus may be large, and no more is tokenised than is asked for
    for text in texts[-held:]:
        if missing <= 0:
            break
        test.append(_ids(text, tokenizer))
        missing -= len(test[-1])
    ids = torch.cat(test)
    if len(ids) < length:
        raise TooShort(f"The last fifth of {name}, which is for testing, has {len(ids)} tokens; windows have {length}.")
    rows = ids[: len(ids) // length * length].view(-1, length)
    return Data(TokenLoader(learn, batch), TokenLoader(rows, batch), "perplexity", name)


def encode(content: str, tokenizer: Any) -> Tensor:
    """int64 (tokens,) without special tokens."""
    # Tokenised by paragraphs: a tokenizer warns about, and slows down on, one text longer than its model's reach.
    pieces = [p for p in content.split("\n\n") if p.strip()]
    encoded = tokenizer([p + "\n\n" for p in pieces], add_special_tokens=False, verbose=False)["input_ids"] if pieces else []
    return torch.tensor([i for row in encoded for i in row], dtype=torch.int64)


def windows(ids: Tensor, name: str, length: int) -> Tensor:
    """int64 (n, length), one after another; raises InputError where the tokens (int64 (n,)) fill fewer than two."""
    if length < 2:
        raise InputError(f"A window of {length} tokens predicts nothing; use at least 2.")
    if len(ids) < 2 * length:
        raise TooShort(f"{name} has {len(ids)} tokens; windows of {length} need at least {2 * length}.")
    return ids[: len(ids) // length * length].view(-1, length)


def crops(texts: Sequence[str | Tensor], tokenizer: Any, count: int, length: int, seed: int) -> Tensor:
    """int64 (count, length): windows drawn as the SparseGPT and Wanda protocol draws them.

    A document at random until one has more than `length` tokens, then a place in it at random; a document may come again.
    Only documents that are drawn are tokenised; those that are tensors are tokens, int64 (n,). Raises TooShort where none is
    long enough.
    """
    random = generator(seed)
    long: dict[int, Tensor] = {}
    short: set[int] = set()
    rows: list[Tensor] = []
    for at in _drawn(len(texts), random):
        if at not in long and at not in short:
            ids = _ids(texts[at], tokenizer)
            long |= {at: ids} if len(ids) > length else {}
            short |= set() if len(ids) > length else {at}
        if len(short) == len(texts):
            break
        if at in long:
            start = int(torch.randint(len(long[at]) - length, (), generator=random))
            rows.append(long[at][start : start + length])
        if len(rows) == count:
            return torch.stack(rows)
    raise TooShort(f"None of the {len(texts)} documents has more than {length} tokens; take shorter windows.")


def _ids(text: str | Tensor, tokenizer: Any) -> Tensor:
    return text if isinstance(text, Tensor) else encode(text, tokenizer)


def _drawn(count: int, random: torch.Generator) -> Iterator[int]:
    while count:
        yield int(torch.randint(count, (), generator=random))


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

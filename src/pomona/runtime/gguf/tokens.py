"""A tokenizer.json as GGUF keeps it: tokens with their kinds, merges, special tokens, and how text is split beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.vocabulary import InputError

_NORMAL, _CONTROL, _USER, _UNUSED, _BYTE, _UNKNOWN = 1, 3, 4, 5, 6, 2

# How text is split before merging: GGUF has names for it, tokenizer.json has the expression. Told apart by what only one has.
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SPLITS = {_CONTRACTION + r"\p{N}{1,3}|": "llama-bpe", _CONTRACTION + r"\p{N}|": "qwen2"}


def add_tokenizer(writer: Any, folder: Path, size: int) -> tuple[str, ...]:
    """Write the tokenizer of a folder into a GGUF writer; notes on what a reader cannot be told.

    `size` is how many tokens the model's embedding has; places without a token are filled. Raises InputError for tokenizers
    that are not BPE.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return (f"There is no tokenizer.json in {folder}, so the file has no tokenizer.",)
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        model = told["model"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged; it does not describe a tokenizer.") from None
    if model.get("type") != "BPE":
        raise InputError(f"GGUF export knows BPE tokenizers; the one in {folder} is {model.get('type')}.")
    tokens, kinds = _tokens(told, model, size)
    pieces = bool(model.get("byte_fallback"))  # as SentencePiece makes them
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    split, notes = ("default", ()) if pieces else _split(told)
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if pieces:
        writer.add_token_scores(_scores(tokens, model))
    from gguf import SpecialVocab

    SpecialVocab(folder, load_merges=True, n_vocab=len(tokens)).add_to_gguf(writer, quiet=True)
    return notes


def _tokens(told: Mapping[str, Any], model: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Every token by its number, and its kind."""
    named = {number: (text, _kind(text, model)) for text, number in model["vocab"].items()}
    for added in told.get("added_tokens", ()):
        kind = _UNKNOWN if added["content"] == model.get("unk_token") else _CONTROL if added.get("special") else _USER
        named[added["id"]] = (added["content"], kind)
    if named and max(named) >= size:
        raise InputError(f"The tokenizer has token {max(named)} and the model {size} embeddings; they do not belong together.")
    filled = [named.get(number, (f"[PAD{number}]", _UNUSED)) for number in range(size)]
    return [text for text, _ in filled], [kind for _, kind in filled]


def _kind(text: str, model: Mapping[str, Any]) -> int:
    if model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
        return _BYTE
    return _NORMAL


def _scores(tokens: list[str], model: Mapping[str, Any]) -> list[float]:
    """SentencePiece merges by score; a merge that comes earlier has the higher one. Numbers count down from 0."""
    order: dict[str, int] = {}
    for number, merge in enumerate(model.get("merges", ())):
        order.setdefault("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1), number)
    return [-float(order.get(token, len(order))) for token in tokens]


def _split(told: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """GGUF's name for the pre-tokenizer, and a note where it has none that we know."""
    before = told.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    patterns = [str((step.get("pattern") or {}).get("Regex", "")) for step in steps]
    for start, name in _SPLITS.items():
        if any(pattern.startswith(start) for pattern in patterns):
            return name, ()
    if kinds == ["Digits", "ByteLevel"]:
        return "smollm", ()
    if kinds == ["ByteLevel"]:
        return "gpt-2", ()
    note = "How this tokenizer splits text has no name in GGUF that Pomona knows; readers will split as GPT-2 does."
    return "gpt-2", (note,)

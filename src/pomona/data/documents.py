"""Text as a list of documents, whatever files it lies in: text, JSON lines, Parquet, data sets saved to disk, folders of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pomona.vocabulary import InputError, first_line

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet", ".arrow")


def documents(path: Path, tokenizer: Any) -> list[str]:
    """Every document under `path`, files of a folder in the order of their names.

    A `.txt` or `.md` file is one document. A line of `.jsonl`, and a row of `.parquet` or of a data set that was saved to disk
    (`.arrow`), is one: its field `text`, or its chat in `messages`, written out by the tokenizer's own template. Raises
    InputError, naming file and line, for what is neither.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise InputError(f"{path} holds no text: no file in it ends in {', '.join(SUFFIXES)}.")
        return [document for file in files for document in documents(file, tokenizer)]
    readers: Mapping[str, Callable[[Path], Iterable[Any]]] = {".jsonl": _lines, ".parquet": _parquet, ".arrow": _arrow}
    if path.suffix not in readers:
        return [_read(path)]
    return [
        _document(row, f"{_row(path)} {number} of {path}", tokenizer) for number, row in enumerate(readers[path.suffix](path), 1)
    ]


def _row(path: Path) -> str:
    return "Line" if path.suffix == ".jsonl" else "Row"


def lines_of(path: Path) -> list[str]:
    """The lines of a file, which end where JSON lines do: other ends that Unicode knows may stand in a text.

    Raises InputError where it is not UTF-8.
    """
    return _read(path).split("\n")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # a mark of byte order is no text
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"Line {number} of {path} is not JSON ({error.msg}).") from None


def _parquet(path: Path) -> list[Any]:
    arrow = _arrow_library(path)
    try:
        rows: list[Any] = arrow.parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {first_line(error).rstrip('.')}.") from None
    return rows


def _arrow(path: Path) -> list[Any]:
    arrow = _arrow_library(path)
    try:
        with arrow.memory_map(str(path)) as source:
            rows: list[Any] = arrow.ipc.open_stream(source).read_all().to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as a saved data set: {first_line(error).rstrip('.')}.") from None
    return rows


def _arrow_library(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"Reading {path} needs pyarrow: pip install 'pomona[corpora]'.") from None
    return pyarrow


def _document(row: Any, place: str, tokenizer: Any) -> str:
    if isinstance(row, Mapping) and isinstance(row.get("text"), str):
        text: str = row["text"]
        return text
    chat = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(chat, list):
        raise InputError(f"{place} has no string field 'text', and no chat in a field 'messages'.")
    if getattr(tokenizer, "chat_template", None) is None:
        raise InputError(f"{place} is a chat and this model's tokenizer has no chat template; give plain text.")
    try:
        written: str = tokenizer.apply_chat_template(chat, tokenize=False)
    # The template is a program that came with the model; what it raises is its own.
    except Exception as error:
        raise InputError(f"{place} is a chat that the tokenizer's template refuses: {first_line(error).rstrip('.')}.") from error
    return written

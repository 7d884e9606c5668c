"""Multiple choice: a context and several endings, one of which is right; what perplexity does not show of a pruned model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pomona.data.data import Data
from pomona.data.documents import lines_of
from pomona.data.text import need_tokenizer
from pomona.vocabulary import InputError

_CONTEXT = ("context", "question", "prompt", "query")
_ENDINGS = ("choices", "endings")
_ANSWER = ("answer", "label", "gold")


@dataclass(frozen=True)
class Question:
    """Token ids of a context and of its endings; `right` numbers the ending that is true."""

    context: tuple[int, ...]
    endings: tuple[tuple[int, ...], ...]
    right: int


@dataclass(frozen=True, eq=False)
class ChoiceLoader:
    """Each batch is the rows of `batch` questions, one row an ending, padded on the right to the longest: dicts with input_ids,
    attention_mask and `labels`, which are the ids where they belong to an ending and -100 elsewhere.

    `endings` (questions,) int64 counts the rows of each question, `right` (questions,) int64 numbers the true one.
    """

    questions: Sequence[Question]
    pad: int = 0
    batch: int = 8

    @property
    def endings(self) -> Tensor:
        """How many endings each question has."""
        return torch.tensor([len(q.endings) for q in self.questions])

    @property
    def right(self) -> Tensor:
        """Which one is true."""
        return torch.tensor([q.right for q in self.questions])

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.questions) // self.batch)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self.questions), self.batch):
            rows = [(q.context, ending) for q in self.questions[start : start + self.batch] for ending in q.endings]
            ids = [torch.tensor([*context, *ending]) for context, ending in rows]
            told = [torch.tensor([*[-100] * len(context), *ending]) for context, ending in rows]
            padded = torch.nn.utils.rnn.pad_sequence
            yield {
                "input_ids": padded(ids, True, float(self.pad)),
                "attention_mask": padded([torch.ones_like(row) for row in ids], True, 0.0),
                "labels": padded(told, True, -100.0),
            }


def are_choices(path: Path) -> bool:
    """Whether the first line of a JSON-lines file has endings to choose from."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, Mapping) and any(name in row for name in _ENDINGS)


def load_choices(path: Path, tokenizer: Any, batch: int) -> Data:
    """Questions from lines with a context, choices (or endings) and an answer: the number of the right one, or A, B, ...

    Context and ending are tokenised apart and joined by a space, unless the ending starts with white space. All lines are for
    testing; training batches are the same rows, which suits calibration without labels only. Raises InputError, naming the
    line, for what is no question.
    """
    need_tokenizer(tokenizer, path.name)
    lines = enumerate(lines_of(path), 1)
    asked = [_question(line, f"Line {n} of {path}", tokenizer) for n, line in lines if line.strip()]
    loader = ChoiceLoader(asked, getattr(tokenizer, "pad_token_id", None) or 0, batch)
    return Data(loader, loader, "choice", path.name)


def _question(line: str, place: str, tokenizer: Any) -> Question:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place} is not JSON ({error.msg}).") from None
    context, endings, answer = (_field(row, names, place) for names in (_CONTEXT, _ENDINGS, _ANSWER))
    if not isinstance(context, str) or not context.strip():
        raise InputError(f"{place} has no text in '{_CONTEXT[0]}'.")
    if not isinstance(endings, list) or len(endings) < 2 or not all(isinstance(e, str) and e.strip() for e in endings):
        raise InputError(f"{place} needs a list of two or more texts in '{_ENDINGS[0]}'.")
    right = _number(answer)
    if not 0 <= right < len(endings):
        raise InputError(f"{place} answers {answer!r}; it has {len(endings)} endings, numbered from 0 or lettered from A.")
    spaced = [e if e[0].isspace() else f" {e}" for e in endings]
    ids = tokenizer([context, *spaced], add_special_tokens=False)["input_ids"]
    return Question(tuple(ids[0]), tuple(map(tuple, ids[1:])), right)


def _field(row: Any, names: Sequence[str], place: str) -> Any:
    found = [row[name] for name in names if name in row] if isinstance(row, Mapping) else []
    if not found:
        raise InputError(f"{place} has no field '{names[0]}'.")
    return found[0]


def _number(answer: Any) -> int:
    if isinstance(answer, str) and len(answer) == 1 and answer.isalpha():
        return ord(answer.upper()) - ord("A")
    text = str(answer)
    return int(text) if text.isdecimal() else -1

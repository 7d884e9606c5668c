import json

import pytest
import torch
from torch import nn

from pomona.data import load_data
from pomona.evaluate import evaluate
from pomona.vocabulary import InputError


class Letters:
    """A tokenizer whose ids are character codes."""

    pad_token_id = 0

    def __call__(self, texts, **wishes):
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


class Fond(nn.Module):
    """Finds one letter likelier than the others, wherever it stands."""

    def __init__(self, letter, by):
        super().__init__()
        self.letter, self.by, self.weight = ord(letter), by, nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, attention_mask=None):
        logits = torch.zeros(*input_ids.shape, 256)
        logits[..., self.letter] = self.by
        return logits


class Follows(nn.Module):
    """Knows that the letter after n is n + 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, attention_mask=None):
        return 9.0 * nn.functional.one_hot((input_ids + 1) % 997, 997).float()


def write(tmp_path, *rows):
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "q.jsonl")


def test_the_likeliest_ending_a_token_is_chosen_not_the_shortest(tmp_path):
    path = write(
        tmp_path,
        {"question": "Which?", "choices": ["b", "aaaa"], "answer": 1},
        {"context": "Which?", "endings": ["ab", "cd", "ef"], "label": "A"},
        {"prompt": "Which?", "choices": ["aa", "bb"], "answer": "B"},
    )
    data = load_data(path, tokenizer=Letters(), batch=2)
    assert data.metric == "choice"
    fond = evaluate(Fond("a", 3.0), data.test, "choice")
    assert (fond.value, fond.examples) == (pytest.approx(2 / 3), 3)
    assert evaluate(Fond("c", 3.0), data.test, "choice").value == 0.0


def test_only_the_ending_counts(tmp_path):
    path = write(tmp_path, {"context": "zzzzzzzz", "choices": ["zb", "ab"], "answer": 1})
    batch = next(iter(load_data(path, tokenizer=Letters()).test))
    assert (batch["labels"] != -100).sum(1).tolist() == [3, 3]  # " zb" and " ab"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"context": "a", "choices": ["b"], "answer": 0}, "two or more"),
        ({"context": "a", "choices": ["b", "c"], "answer": 2}, "answers 2"),
        ({"context": "a", "choices": ["b", "c"], "answer": "E"}, "answers 'E'"),
        ({"context": "a", "choices": ["b", "c"]}, "no field 'answer'"),
        ({"choices": ["b", "c"], "answer": 0}, "no field 'context'"),
        ({"context": " ", "choices": ["b", "c"], "answer": 0}, "no text"),
    ],
)
def test_what_is_no_question_is_refused(tmp_path, row, says):
    with pytest.raises(InputError, match=f"Line 1 of .*{says}"):
        load_data(write(tmp_path, row), tokenizer=Letters())


def test_cloze_finds_the_own_ending_by_what_came_before():
    windows = torch.stack([torch.arange(32) + 40 * row for row in range(12)])
    data = [{"input_ids": windows[:5]}, {"input_ids": windows[5:]}]
    assert evaluate(Follows(), data, "cloze").value == 1.0
    blind = evaluate(Fond("a", 0.0), [{"input_ids": windows % 256}], "cloze")
    assert (blind.value, blind.examples) == (1.0, 12)  # all alike: ties go to the first


def test_cloze_needs_windows_to_choose_from():
    for windows, says in ((torch.arange(64).view(2, 32), "at least 4"), (torch.ones(6, 32, dtype=torch.int64), "end alike")):
        with pytest.raises(InputError, match=says):
            evaluate(Follows(), [windows], "cloze")


def test_questions_that_are_not_utf8_are_refused_and_ends_of_lines_within_texts_are_none(tmp_path):
    row = {"context": "a\u2028b", "choices": ["c", "d"], "answer": 0}
    (tmp_path / "q.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8-sig")
    assert load_data(str(tmp_path / "q.jsonl"), tokenizer=Letters()).metric == "choice"
    (tmp_path / "q.jsonl").write_bytes(json.dumps(row).encode() + b'\n{"context": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        load_data(str(tmp_path / "q.jsonl"), tokenizer=Letters())

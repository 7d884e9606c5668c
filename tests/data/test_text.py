import json

import pytest
import torch

from pomona.data import load_data
from pomona.vocabulary import InputError


class Letters:
    """A tokenizer whose ids are character codes."""

    pad_token_id = 0

    def __call__(self, texts, **wishes):
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


def test_text_is_cut_into_windows_in_order(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij" * 5)
    data = load_data(str(tmp_path / "a.txt"), tokenizer=Letters(), length=5, batch=3)
    (batch,) = list(data.test)
    assert batch["input_ids"].shape == (2, 5) and "".join(map(chr, batch["input_ids"][0])) == "abcde"
    assert torch.equal(batch["labels"], batch["input_ids"]) and sum(len(b["labels"]) for b in data.train) == 8
    assert data.metric == "perplexity"


def test_jsonl_joins_its_texts(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in ("abcd", "efgh")))
    data = load_data(str(tmp_path / "a.jsonl"), tokenizer=Letters(), length=6)
    ids = torch.cat([b["input_ids"] for half in (data.train, data.test) for b in half])
    assert "".join(map(chr, ids.flatten())) == "abcd\n\nefgh\n\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "0 tokens"),
        ("a.txt", "short", "at least 16"),
        ("a.jsonl", "{", "Line 1"),
        ("a.jsonl", '{"txt": "a"}', "no string field 'text'"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        load_data(str(tmp_path / name), tokenizer=Letters(), length=8)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_data(str(tmp_path / "a.txt"), tokenizer=Letters())


def test_text_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(InputError, match="no tokenizer"):
        load_data(str(tmp_path / "a.txt"))

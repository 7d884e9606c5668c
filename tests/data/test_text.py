import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pomona.data import load_data
from pomona.data.data import Data
from pomona.data.documents import documents
from pomona.data.overlap import check_apart, overlap
from pomona.data.text import TooShort, crops, token_data
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


def test_lines_of_json_end_at_line_feeds_alone(tmp_path):
    """Texts of the web hold other ends of lines, which JSON need not escape; some files begin with a mark of byte order."""
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in ("ab\u2028cd", "ef\u0085gh")]
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8", newline="")
    assert "ab\u2028cd" in documents(tmp_path / "a.jsonl", Letters())[0]
    assert len(documents(tmp_path / "a.jsonl", Letters())) == 2


def test_numbers_beyond_int64_are_no_tokens(tmp_path):
    np.save(tmp_path / "a.npy", np.full(40, 2**63 + 5, dtype=np.uint64))
    with pytest.raises(InputError, match="token 9223372036854775813, which no vocabulary has"):
        load_data(str(tmp_path / "a.npy"), length=4)


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


class Chatty(Letters):
    chat_template = "{{ messages }}"

    def apply_chat_template(self, messages, tokenize):
        return "".join(f"<{m['role']}>{m['content']}" for m in messages)


def shown(data):
    return "".join(map(chr, torch.cat([b["input_ids"] for half in (data.train, data.test) for b in half]).flatten()))


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("abcd")
    (tmp_path / "b" / "c.jsonl").write_text('{"text": "efgh"}')
    (tmp_path / "z.md").write_text("ijkl")
    assert shown(load_data(str(tmp_path), tokenizer=Letters(), length=6)) == "abcd\n\nefgh\n\nijkl\n\n"


def test_a_folder_of_pictures_with_a_note_stays_one_of_pictures(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "cat" / name).write_bytes(b"")
    (tmp_path / "README.md").write_text("pictures of cats")
    assert load_data(str(tmp_path), tokenizer=Letters()).metric == "accuracy"


def test_chats_are_written_out_by_the_template(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hello"}]}))
    assert shown(load_data(str(tmp_path / "a.jsonl"), tokenizer=Chatty(), length=6)) == "<user>hello\n"
    with pytest.raises(InputError, match="no chat template"):
        load_data(str(tmp_path / "a.jsonl"), tokenizer=Letters(), length=2)


def test_parquet_and_saved_data_sets_are_rows_of_text(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"text": ["abcd", "efgh"], "id": [1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    with arrow.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as file, arrow.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    for name in ("a.parquet", "data-00000-of-00001.arrow"):
        assert shown(load_data(str(tmp_path / name), tokenizer=Letters(), length=6)) == "abcd\n\nefgh\n\n"
    parquet.write_table(arrow.table({"id": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"Row 1 of .*no string field 'text'"):
        load_data(str(tmp_path / "b.parquet"), tokenizer=Letters())
    (tmp_path / "c.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_data(str(tmp_path / "c.parquet"), tokenizer=Letters())


def test_tokens_come_as_they_are(tmp_path):
    np.save(tmp_path / "flat.npy", np.arange(23, dtype=np.uint16))
    save_file({"input_ids": torch.arange(20).view(4, 5), "other": torch.zeros(1)}, tmp_path / "rows.safetensors")
    flat, rows = load_data(str(tmp_path / "flat.npy"), length=5), load_data(str(tmp_path / "rows.safetensors"), length=99)
    assert torch.equal(
        torch.cat([b["input_ids"] for half in (flat.train, flat.test) for b in half]).sort(0).values.flatten(), torch.arange(20)
    )
    assert next(iter(rows.test))["input_ids"].tolist() == [[15, 16, 17, 18, 19]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (torch.zeros(4, 5), "whole numbers"),
        (-torch.ones(99, dtype=torch.int64), "token -1"),
        (torch.ones(1, 5, dtype=torch.int64), "at least two"),
    ],
)
def test_what_are_no_tokens_is_refused(tmp_path, values, says):
    np.save(tmp_path / "a.npy", values.numpy())
    with pytest.raises(InputError, match=says):
        load_data(str(tmp_path / "a.npy"), length=4)


def test_crops_are_places_of_long_documents_and_alike_for_equal_seeds():
    texts = ["short", "abcdefghijklmnop" * 4, "ABCDEFGHIJKLMNOP" * 4]
    drawn = crops(texts, Letters(), 40, 16, seed=3)
    assert drawn.shape == (40, 16) and torch.equal(drawn, crops(texts, Letters(), 40, 16, seed=3))
    assert not torch.equal(drawn, crops(texts, Letters(), 40, 16, seed=4))
    read = {"".join(map(chr, row)).strip() for row in drawn}
    assert all(any(row in text for text in texts[1:]) for row in read) and len(read) > 20
    with pytest.raises(InputError, match="None of the 1 documents"):
        crops(["short"], Letters(), 1, 16, seed=0)


def lines(tmp_path, count, size=80):
    texts = [f"{number:04d}" + "".join(chr(97 + (number * 7 + place) % 26) for place in range(size)) for number in range(count)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return texts


def decoded(loader):
    return ["".join(map(chr, row)) for batch in loader for row in batch["input_ids"].tolist()]


def test_drawn_windows_come_from_documents_of_which_the_last_fifth_is_kept_for_testing(tmp_path):
    texts = lines(tmp_path, 10)
    data = load_data(str(tmp_path / "a.jsonl"), tokenizer=Letters(), length=16, draws=30, batch=4, seed=3)
    learn, test = decoded(data.train), decoded(data.test)
    assert len(learn) == 30 and len(set(learn)) > 15 and len(data.train) == 8
    assert all(any(window in text + "\n\n" for text in texts[:8]) for window in learn)
    assert "".join(test) in "\n\n".join([*texts[8:], ""]) and test
    assert learn == decoded(data.train)
    again, other = (load_data(str(tmp_path / "a.jsonl"), tokenizer=Letters(), length=16, draws=30, seed=s) for s in (3, 4))
    assert decoded(again.train) == learn != decoded(other.train)


@pytest.mark.parametrize("kind", ["txt", "npy"])
def test_one_long_document_is_drawn_from_with_its_own_last_fifth_kept(kind, tmp_path):
    text = "".join(chr(40 + place % 80) + chr(40 + place // 80) for place in range(500))
    (tmp_path / "a.txt").write_text(text)
    np.save(tmp_path / "a.npy", np.array([ord(letter) for letter in text]))
    data = load_data(str(tmp_path / f"a.{kind}"), tokenizer=Letters(), length=20, draws=50)
    whole = text + ("\n\n" if kind == "txt" else "")
    cut = len(whole) * 4 // 5
    assert len(decoded(data.train)) == 50 and all(window in whole[:cut] for window in decoded(data.train))
    assert all(window in whole[cut:] for window in decoded(data.test))


def test_windows_that_no_document_fills_are_too_short_and_what_is_no_text_is_refused(tmp_path):
    lines(tmp_path, 10, size=20)
    with pytest.raises(TooShort, match="None of the 8 documents has more than 30 tokens"):
        load_data(str(tmp_path / "a.jsonl"), tokenizer=Letters(), length=30, draws=5)
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), y=np.zeros(4))
    for text in ("digits", str(tmp_path / "a.npz"), str(tmp_path / "nothing.txt")):
        with pytest.raises(InputError, match="drawn from text"):
            load_data(text, draws=5)


def test_text_that_was_learnt_from_is_found_again_however_it_is_cut():
    ids = torch.randint(0, 50000, (4000,), generator=torch.Generator().manual_seed(0))
    learn, apart = ids[:2048].view(-1, 128), ids[2048:3968].view(-1, 128)
    shifted = ids[77 : 77 + 1024].view(-1, 128)
    assert overlap(learn, apart) == 0.0
    assert overlap(learn, shifted) == 1.0
    assert overlap(learn, torch.cat([shifted, apart[:8]])) == 0.5
    assert overlap(learn, learn[:, 3:13]) == 1.0  # windows below the run's length


def test_measuring_on_what_was_calibrated_on_is_refused():
    ids = torch.randint(0, 50000, (8192,), generator=torch.Generator().manual_seed(1))
    learn, again, apart = (
        token_data(piece, name, 64, 2, 0) for piece, name in ((ids[:4096], "a"), (ids[33:4000], "b"), (ids[4096:], "c"))
    )
    check_apart(learn, apart)
    check_apart(learn, learn)  # its own last fifth
    check_apart(Data([], [], "mse", "x"), learn)
    with pytest.raises(InputError, match=r"windows of c hold passages of b.*--overlap"):
        check_apart(again, token_data(torch.cat([ids[4096:], ids[:1024]]), "c", 64, 2, 0))

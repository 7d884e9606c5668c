import pytest
import torch

from pomona.data import load_data
from pomona.vocabulary import InputError


@pytest.fixture(scope="module")
def tokenizer():
    from pomona.models import load_model

    return load_model("minilm").tokenizer


def test_foolbox_has_twenty_pictures_with_their_class_numbers():
    data = load_data("foolbox-imagenet", pixels={"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop": 0.875, "channels": 3})
    ((x, y),) = list(data.test)
    assert x.shape == (20, 3, 8, 8) and y[:3].tolist() == [243, 559, 438] and y.max() < 1000


def test_lee_rates_every_pair_of_fifty_documents(tokenizer):
    data = load_data("lee", tokenizer=tokenizer)
    assert len(data.test.pairs) == 1225 and data.test.pairs.max() == 49 and data.metric == "pearson"
    assert data.test.scores.min() >= 0 and data.test.scores.max() <= 1
    assert sum(len(b["input_ids"]) for b in data.test) == 50 and sum(len(b["input_ids"]) for b in data.train) == 300


def test_wordsim_pairs_name_the_right_words(tokenizer):
    data = load_data("wordsim353", tokenizer=tokenizer)
    words = [tokenizer.decode(row, skip_special_tokens=True) for b in data.test for row in b["input_ids"]]
    rated = {(words[a], words[b]): float(s) for (a, b), s in zip(data.test.pairs.tolist(), data.test.scores, strict=True)}
    assert rated[("tiger", "cat")] == 7.35 and len(data.test.pairs) == 353


def test_padding_is_masked(tokenizer):
    batch = next(iter(load_data("lee", tokenizer=tokenizer).test))
    assert torch.equal(batch["input_ids"] == tokenizer.pad_token_id, batch["attention_mask"] == 0)


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps foolbox"):
        load_data("foolbox-imagenet")

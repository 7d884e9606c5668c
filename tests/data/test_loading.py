import pytest
import torch

from pomona.data import load_data
from pomona.data.loading import from_object
from pomona.vocabulary import InputError

SETS = """
import torch

def batches():
    return [(torch.zeros(2, 3), torch.tensor([0, 1]))]

def generated():
    yield torch.zeros(2, 3), torch.tensor([0.5, 1.0])

def halves():
    return {"train": batches(), "test": [torch.ones(4, 3)], "classes": ["no", "yes"]}

def typo():
    return {"train": batches(), "tset": batches()}

def nothing():
    return []

def number():
    return 3

def sick():
    return [(torch.tensor([[float("nan")]]), torch.tensor([0]))]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "user_sets.py").write_text(SETS)
    (tmp_path / "table.csv").write_text("1,2")
    monkeypatch.chdir(tmp_path)


def test_a_functions_batches_serve_both_halves():
    data = load_data("user_sets:batches")
    assert data.metric == "accuracy" and data.train is data.test


def test_a_generator_can_be_read_again():
    data = load_data("user_sets.py:generated")
    assert [len(list(data.train)) for _ in range(2)] == [1, 1] and data.metric == "mse"


def test_a_dict_names_its_halves():
    data = load_data("user_sets:halves")
    assert next(iter(data.test)).shape == (4, 3) and data.metric == "agreement" and data.classes == ("no", "yes")


def test_token_batches_with_labels_are_language():
    ids = torch.ones(2, 5, dtype=torch.int64)
    assert from_object([{"input_ids": ids, "labels": ids}], "x").metric == "perplexity"
    assert from_object([{"input_ids": ids, "labels": ids[:, 0]}], "x").metric == "accuracy"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fashon-mnist", "did you mean 'fashion-mnist'"),
        ("nowhere.npz", "no data 'nowhere.npz'"),
        ("table.csv", "'.csv' file"),
        ("user_sets:typo", "unknown key 'tset'"),
        ("user_sets:nothing", "no batches"),
        ("user_sets:number", "returned int"),
        ("user_sets:sick", "NaN"),
        ("lee", "tokenizer"),
    ],
)
def test_what_is_no_data_is_refused_in_one_sentence(text, says):
    with pytest.raises(InputError, match=says) as refused:
        load_data(text)
    assert "\n" not in str(refused.value)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one example"):
        load_data("digits", batch=0)

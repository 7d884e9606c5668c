from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pomona.models import Loaded, Source, example_inputs
from pomona.vocabulary import InputError


def test_shapes_and_types_are_read():
    (a, b), kwargs = example_inputs(nn.Embedding(5, 2), spec="2,3; 1,16:int64")
    assert a.shape == (2, 3) and a.dtype == torch.float32 and b.shape == (1, 16) and b.dtype == torch.int64 and kwargs == {}


def test_whole_numbers_are_valid_for_the_shortest_embedding():
    (ids,), _ = example_inputs(nn.ModuleList([nn.Embedding(3, 2), nn.Embedding(900, 2)]), spec="4,100:int64")
    assert ids.min() >= 0 and ids.max() <= 2


@pytest.mark.parametrize(("most", "length"), [(16, 16), (-1, 32), (None, 32), (4096, 32)])
def test_tokens_are_as_many_as_there_are_positions(most, length):
    model = nn.Linear(2, 2)
    model.config = SimpleNamespace(vocab_size=100, max_position_embeddings=most)
    assert example_inputs(model)[1]["input_ids"].shape == (1, length)


def test_the_same_inputs_come_every_time():
    first, second = (example_inputs(nn.Linear(3, 1), spec="2,3")[0][0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_function_may_give_keywords(tmp_path, monkeypatch):
    (tmp_path / "user_inputs.py").write_text("import torch\ndef make():\n    return {'x': torch.ones(1, 2)}\n")
    monkeypatch.chdir(tmp_path)
    args, kwargs = example_inputs(nn.Identity(), spec="user_inputs:make")
    assert args == () and kwargs["x"].shape == (1, 2)


def test_the_users_shape_wins_over_the_sources_own():
    loaded = Loaded(nn.Linear(3, 1), Source("function", "a:b"), example=((torch.zeros(1, 3),), {}))
    assert example_inputs(loaded.model, loaded)[0][0].shape == (1, 3)
    assert example_inputs(loaded.model, loaded, "7,3")[0][0].shape == (7, 3)


@pytest.mark.parametrize(
    ("spec", "says"),
    [("1,x", "write its shape"), ("1,3:int9", "not a type"), ("0,3", "holds nothing"), ("", "its shape"), (None, "--input")],
)
def test_what_is_no_input_is_refused(spec, says):
    with pytest.raises(InputError, match=says):
        example_inputs(nn.Linear(3, 1), spec=spec)

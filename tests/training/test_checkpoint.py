import pytest
import torch

from pomona.training.checkpoint import load, save
from pomona.vocabulary import InputError


def test_a_tree_comes_back_as_it_was(tmp_path):
    tree = {"a": {0: torch.arange(3), 1: [torch.tensor(True), None]}, "b": (1, 2.5, "x"), "empty": {}}
    tree["bf"] = torch.ones(2, dtype=torch.bfloat16)
    save(tmp_path / "deep" / "t.safetensors", tree)
    back = load(tmp_path / "deep" / "t.safetensors")
    assert back["b"] == (1, 2.5, "x") and back["empty"] == {} and back["a"][1][1] is None
    assert torch.equal(back["a"][0], tree["a"][0]) and back["bf"].dtype == torch.bfloat16 and back["a"][1][0].item() is True


def test_an_unfit_value_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match="set"):
        save(tmp_path / "t.safetensors", {"a": {1, 2}})
    assert not list(tmp_path.iterdir())


def test_garbage_is_named(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load(tmp_path / "t.safetensors")

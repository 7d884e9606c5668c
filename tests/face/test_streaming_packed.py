"""A folder whose weights are packed is pruned further, block by block, as the plain one would be."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import language
from experts import folder_of, qwen3
from pomona.face.packing import export_folder
from pomona.face.streaming import prune_folder
from pomona.vocabulary import InputError


def tensors(folder):
    return {key: value for path in sorted(folder.glob("model*.safetensors")) for key, value in load_file(path).items()}


@pytest.fixture
def folders(tmp_path):
    """(the folder of a model at half of its weights, the same with packed weights, the data)"""
    model, data = language.model("llama")
    model.half().save_pretrained(tmp_path / "dense")
    prune_folder(tmp_path / "dense", tmp_path / "plain", goal="sparsity=0.5", data=data, only=["model.layers", "lm_head"])
    found = export_folder(tmp_path / "plain", tmp_path / "packed", packed=True)
    assert found["weights"] == 22
    return tmp_path / "plain", tmp_path / "packed", data


def test_packed_folders_are_pruned_to_the_bit_as_plain_ones(folders, tmp_path):
    plain, packed, data = folders
    wish = {"method": "sparsegpt", "goal": "sparsity=0.7", "data": data}
    one, other = prune_folder(plain, tmp_path / "one", **wish), prune_folder(packed, tmp_path / "other", **wish)
    first, second = tensors(one.folder), tensors(other.folder)
    assert first.keys() == second.keys() == tensors(plain).keys()
    assert all(torch.equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in first)
    assert "quantization_config" not in json.loads((other.folder / "config.json").read_text())
    assert other.load().config.hidden_size == 32


def test_packed_experts_are_unpacked_before_they_are_joined(tmp_path):
    _, data = language.model("llama")
    folder_of(qwen3(), tmp_path / "dense")
    prune_folder(tmp_path / "dense", tmp_path / "plain", goal="sparsity=0.5", data=data)
    export_folder(tmp_path / "plain", tmp_path / "packed", packed=True)
    for name in ("plain", "packed"):
        prune_folder(tmp_path / name, tmp_path / f"{name} again", goal="sparsity=0.6", data=data)
    one, other = tensors(tmp_path / "plain again"), tensors(tmp_path / "packed again")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_packed_weight_that_is_damaged_is_named(folders, tmp_path):
    _, packed, data = folders
    (file,) = packed.glob("model*.safetensors")
    found = load_file(file)
    found["model.layers.1.mlp.up_proj.weight_bits"][0, 0] ^= 1
    save_file(found, file, {"format": "pt", "pomona_packed": "1"})
    with pytest.raises(InputError, match=r"model.layers.1.mlp.up_proj.weight is damaged"):
        prune_folder(packed, tmp_path / "out", goal="sparsity=0.6", data=data)
    assert not (tmp_path / "out").exists()


def test_weights_that_others_stored_in_their_way_are_refused(folders, tmp_path):
    plain, _, data = folders
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(InputError, match="weights that fp8 stores"):
        prune_folder(plain, tmp_path / "out", goal="sparsity=0.6", data=data)

"""Checkpoints with packed weights: one file or many, whatever the types; damaged ones are refused in one sentence."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pomona.runtime.packing import Checkpoint, fill, pack, rewrite, weight_files, write_checkpoint
from pomona.vocabulary import InputError


def sparse(*shape, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=g)
    return weight.masked_fill(torch.rand(shape, generator=g) < 0.6, 0).to(dtype)


def tensors():
    return {
        "embed.weight": torch.randn(50, 32, generator=torch.Generator().manual_seed(9)),
        "a.weight": sparse(64, 96),
        "b.weight": sparse(96, 64, seed=1).bfloat16(),
        "conv.weight": sparse(16, 8, 3, 3, seed=2),
        "experts.gate_up_proj": sparse(3, 40, 64, seed=3),
        "norm.weight": torch.zeros(64),
        "steps": torch.arange(5),
    }


@pytest.fixture
def plain(tmp_path):
    (tmp_path / "plain").mkdir()
    save_file(tensors(), tmp_path / "plain" / "model.safetensors", metadata={"format": "pt", "lm_head.weight": "embed.weight"})
    return tmp_path / "plain"


@pytest.fixture
def packed(plain, tmp_path):
    (tmp_path / "packed").mkdir()
    rewrite(Checkpoint.of(plain), tmp_path / "packed", packed=True, largest=20_000)
    return tmp_path / "packed"


def test_what_is_packed_in_several_files_is_what_was_there(packed):
    checkpoint = Checkpoint.of(packed)
    assert len(weight_files(packed)) > 1
    assert set(checkpoint.packed) == {"a.weight", "b.weight", "conv.weight", "experts.gate_up_proj"}
    for name, value in tensors().items():
        assert checkpoint.shape(name) == tuple(value.shape)
        assert checkpoint.tensor(name).dtype == value.dtype
        assert torch.equal(checkpoint.tensor(name), value)
    assert set(checkpoint.names) == set(tensors())
    assert checkpoint.metadata["lm_head.weight"] == "embed.weight"


def test_the_index_says_where_every_tensor_is(packed):
    index = json.loads((packed / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for file in weight_files(packed) for t in load_file(file).values())
    for name, file in index["weight_map"].items():
        assert name in load_file(packed / file)


def test_files_are_no_larger_than_asked_but_for_their_headers(packed):
    for file in weight_files(packed):
        held = load_file(file)
        assert sum(t.nbytes for t in held.values()) <= 20_000 or len({name.split("_")[0] for name in held}) == 1


def test_packed_and_plain_again_is_the_same_file(packed, plain, tmp_path):
    (tmp_path / "again").mkdir()
    rewrite(Checkpoint.of(packed), tmp_path / "again", packed=False)
    ours, theirs = load_file(tmp_path / "again" / "model.safetensors"), load_file(plain / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_smaller_dense_stays_dense(tmp_path):
    save_file({"w": torch.ones(64, 64), "v": sparse(64, 64)}, tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    found = rewrite(Checkpoint.of(tmp_path), tmp_path / "out", packed=True)
    assert found["weights"] == 1
    assert Checkpoint.of(tmp_path / "out").packed == ("v",)


def test_a_mask_keeps_zeros_alive_and_values_that_round_to_zero_live_on(tmp_path):
    weight = torch.zeros(64, 64)
    weight[:, 0], weight[:, 1] = 1.0, 1e-9  # 1e-9 is no float16
    keep = torch.zeros(64, 64, dtype=torch.bool)
    keep[:, :3] = True
    save_file({"w": weight, "v": weight.clone()}, tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    rewrite(Checkpoint.of(tmp_path), tmp_path / "out", packed=True, dtype=torch.float16, masks={"w": keep})
    checkpoint = Checkpoint.of(tmp_path / "out")
    assert torch.equal(checkpoint.alive("w"), keep)
    assert checkpoint.alive("v").sum(0)[:3].tolist() == [64, 64, 0]
    assert checkpoint.tensor("w")[0].tolist()[:3] == [1.0, 0.0, 0.0]


def test_zeros_that_a_multiplied_mask_left_negative_are_removed_all_the_same(tmp_path):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 256, generator=g).half() * (torch.rand(64, 256, generator=g) < 0.5)
    save_file({"w": weight}, tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    found = rewrite(Checkpoint.of(tmp_path), tmp_path / "out", packed=True)
    assert found["share"] < 0.58
    assert torch.equal(Checkpoint.of(tmp_path / "out").tensor("w"), weight)


def test_a_value_that_the_type_cannot_hold_is_refused(tmp_path):
    save_file({"big.weight": torch.full((4, 4), 1e6)}, tmp_path / "model.safetensors")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"big\.weight .*float16.*bfloat16"):
        rewrite(Checkpoint.of(tmp_path), tmp_path / "out", packed=True, dtype=torch.float16)


class Net(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.embed, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def written(folder, **state):
    write_checkpoint(folder, state.items(), {}, 10**9)
    return Checkpoint.of(folder)


def test_a_model_is_filled_in_place_and_tied_weights_need_be_there_once(tmp_path):
    net, weight = Net(), sparse(8, 4)
    before = net.head.weight.data_ptr()
    fill(net, written(tmp_path, **{"head.weight": pack(weight)}))
    assert torch.equal(net.embed.weight, weight)
    assert net.head.weight.data_ptr() == net.embed.weight.data_ptr() == before


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"head.weight": torch.ones(8, 4)}, "embed.weight is in the model and not in the file"),
        ({"head.weight": torch.ones(8, 4), "embed.weight": torch.ones(8, 5)}, r"embed.weight is \(8, 5\) in the file"),
        ({"head.weight": torch.ones(8, 4), "embed.weight": torch.ones(8, 4), "x": torch.ones(1)}, "x is in the file and not"),
    ],
)
def test_a_model_that_does_not_fit_is_left_alone(tmp_path, state, said):
    net = Net(tied=False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match=said):
        fill(net, written(tmp_path, **state))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def refused(folder, said):
    with pytest.raises(InputError, match=said) as refusal:
        checkpoint = Checkpoint.of(folder)
        for name in checkpoint.names:
            checkpoint.tensor(name)
    assert "\n" not in str(refusal.value)


def test_a_truncated_file_is_refused(packed):
    file = weight_files(packed)[0]
    file.write_bytes(file.read_bytes()[:-100])
    refused(packed, "truncated")


def test_a_missing_file_is_refused_by_name(packed):
    file = weight_files(packed)[1]
    file.unlink()
    refused(packed, file.name)


def test_an_index_that_is_damaged_or_leads_out_of_the_folder_is_refused(packed):
    index = packed / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text[:50])
    refused(packed, "index")
    index.write_text(text.replace("model-00001", "../model-00001"))
    refused(packed, "index names")


def test_a_folder_without_weights_is_refused(tmp_path):
    refused(tmp_path, "holds no weights")


def rewritten(folder, change, metadata=None):
    """The files of a folder with their tensors or header changed."""
    for file in weight_files(folder):
        held = load_file(file)
        change(held)
        save_file(held, file, metadata={"format": "pt", "pomona_packed": "1", **(metadata or {})})


def test_another_version_is_refused_by_its_number(packed):
    rewritten(packed, lambda held: None, {"pomona_packed": "7"})
    refused(packed, "format 7; this Pomona reads 1")


HARM = {
    "values": lambda held: held.update({n: v[:-1] for n, v in held.items() if n == "a.weight_values"}),
    "bits": lambda held: held.update({n: v | 1 for n, v in held.items() if n == "a.weight_bits"}),
    "offsets": lambda held: held.update({n: v.flip(0) for n, v in held.items() if n == "a.weight_offsets"}),
    "shape": lambda held: held.update({n: torch.tensor([0, 96, 64]) for n in held if n == "a.weight"}),
    "negative shape": lambda held: held.update({n: torch.tensor([0, -64, -96]) for n in held if n == "a.weight"}),
    "no shape": lambda held: held.update({n: torch.ones(3) for n in held if n == "a.weight"}),
    "part": lambda held: held.pop("a.weight_offsets", None),
    "ticket": lambda held: held.pop("a.weight", None),
}


@pytest.mark.parametrize("harm", HARM)
def test_damaged_parts_are_refused_before_they_are_read(packed, harm):
    rewritten(packed, HARM[harm])
    refused(packed, r"a\.weight is (damaged|incomplete)")


def test_a_checkpoint_of_somebody_else_is_plain_whatever_its_tensors_are_called(tmp_path):
    save_file({"w": torch.ones(2), "w_bits": torch.ones(2)}, tmp_path / "model.safetensors")
    assert Checkpoint.of(tmp_path).names == ("w", "w_bits")
    shutil.rmtree(tmp_path)

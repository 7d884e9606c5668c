"""Safetensors files, a tensor at a time."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pomona.shards import Shards, write_shard
from pomona.vocabulary import InputError

TENSORS = {
    "a": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "b": torch.arange(7, dtype=torch.bfloat16),
    "c": torch.tensor([True, False]),
    "d": torch.tensor(2.5, dtype=torch.float64),
    "e": torch.zeros(0, 4),
}


@pytest.fixture
def theirs(tmp_path):
    save_file(TENSORS, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


def test_what_safetensors_wrote_is_read(theirs):
    shards = Shards.of([theirs])
    assert shards.places.keys() == TENSORS.keys()
    assert all(
        torch.equal(shards.read(name), value) and shards.read(name).dtype == value.dtype for name, value in TENSORS.items()
    )
    mapped = shards.mapped("a")
    assert torch.equal(mapped, TENSORS["a"])
    mapped.zero_()
    assert torch.equal(shards.read("a"), TENSORS["a"]), "writing to a view of the file changed the file"


def test_what_is_written_safetensors_reads_whether_held_or_copied(theirs, tmp_path):
    places = Shards.of([theirs]).places
    size = write_shard(tmp_path / "ours.safetensors", {**TENSORS, "a": places["a"], "e": places["e"]})
    found = load_file(tmp_path / "ours.safetensors")
    assert found.keys() == TENSORS.keys() and all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert size == sum(value.nbytes for value in TENSORS.values())
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("cut", [4, 30, 700])
def test_a_truncated_file_is_refused(theirs, cut):
    content = theirs.read_bytes()
    theirs.write_bytes(content[: min(cut, len(content) - 1)])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        Shards.of([theirs])


def test_the_stamp_tells_files_apart(theirs, tmp_path):
    before = Shards.of([theirs]).stamp
    assert before == Shards.of([theirs]).stamp
    save_file({**TENSORS, "f": torch.zeros(1)}, theirs)
    assert before != Shards.of([theirs]).stamp

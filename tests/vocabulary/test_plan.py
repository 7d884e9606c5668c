import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pomona.vocabulary import Decision, InputError, Member, Plan, Site
from pomona.vocabulary.bits import pack, unpack


def plan() -> Plan:
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(5, 7, generator=generator) > 0.5
    index = torch.arange(6).view(3, 2)
    sites = {
        "w": Site("w", "element", (5, 7), (Member("w", "self"),)),
        "h": Site("h", "axis", (3,), (Member("a", "out", 0, index), Member("b", "scale", 0, None, buffer=True))),
        "layers": Site("layers", "branch", (2,), (), blocks=("layers.0", "layers.1")),
    }
    decisions = {
        "w": Decision(keep, {"w": torch.arange(35.0).view(5, 7)}),
        "h": Decision(torch.tensor([True, False, True])),
        "layers": Decision(torch.tensor([False, True])),
    }
    return Plan(sites, decisions, {"goal": "sparsity=0.5", "seed": 3})


@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(0, 1000))
def test_bits_survive_packing(shape, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    assert torch.equal(unpack(pack(mask), tuple(shape)), mask)


def test_equal_plans_are_equal_files(tmp_path):
    for number in range(8):  # several entries of metadata would be written in an order of chance
        plan().save(tmp_path / str(number))
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_a_saved_plan_is_the_same_plan(tmp_path):
    before = plan()
    before.save(tmp_path / "plan.safetensors")
    after = Plan.load(tmp_path / "plan.safetensors")
    assert dict(after.provenance) == dict(before.provenance)
    assert list(after.sites) == list(before.sites)
    for name in before.sites:
        assert torch.equal(after.keep(name), before.keep(name))
        assert after.sites[name].kind == before.sites[name].kind
    assert torch.equal(after.decisions["w"].tensors["w"], before.decisions["w"].tensors["w"])
    assert torch.equal(after.sites["h"].members[0].index, before.sites["h"].members[0].index)
    assert after.sites["h"].members[1].buffer and after.sites["layers"].blocks == ("layers.0", "layers.1")


def test_a_truncated_plan_is_refused(tmp_path):
    path = tmp_path / "plan.safetensors"
    plan().save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="truncated"):
        Plan.load(path)


def test_an_altered_plan_is_refused(tmp_path):
    path = tmp_path / "plan.safetensors"
    plan().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="altered"):
        Plan.load(path)


def test_a_missing_plan_and_other_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no plan"):
        Plan.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="not a readable plan"):
        Plan.load(tmp_path / "text")


def test_saving_leaves_nothing_half_written(tmp_path):
    plan().save(tmp_path / "plan.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.safetensors"]

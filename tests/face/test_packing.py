"""Saved folders with packed weights: the same model in fewer bytes, whatever built it."""

import json

import pytest
import torch
from torch import nn

import language
import pomona
import zoo
from pomona.face.packing import Masks, export_folder
from pomona.face.streaming import prune_folder
from pomona.runtime.packing import Checkpoint, weight_files
from pomona.vocabulary import InputError, Plan


def result(name, **wish):
    model, args = getattr(zoo, name)()
    return args, pomona.prune(model, args, method="magnitude-uniform", latency=False, **wish)


def output(model, args):
    with torch.no_grad():
        out = model(**args) if isinstance(args, dict) else model(*args)
    return out if isinstance(out, torch.Tensor) else out[0]


@pytest.fixture(scope="module")
def sparse():
    return result("llama", structure="weights", goal="sparsity=0.5")


@pytest.fixture
def saved(sparse, tmp_path):
    return sparse[1].save(tmp_path / "plain")


@pytest.mark.parametrize("largest", [None, 3000])
def test_a_result_can_be_saved_packed_and_opens_bit_for_bit(sparse, tmp_path, largest):
    args, found = sparse
    folder = found.save(tmp_path / "out", packed=True, largest=largest)
    assert Checkpoint.of(folder).packed
    assert torch.equal(output(pomona.load(folder), args), output(found.model, args))
    assert torch.equal(output(type(found.model).from_pretrained(folder), args), output(found.model, args))


def test_equal_weights_are_equal_files(sparse, tmp_path):
    files = [sparse[1].save(tmp_path / str(number), packed=True) / "model.safetensors" for number in range(6)]
    assert len({file.read_bytes() for file in files}) == 1


def test_a_convolutional_net_is_packed_too(tmp_path):
    model, args = zoo.resnet()
    source = pomona.models.Source("function", "zoo:resnet")
    found = pomona.prune(model, args, goal="sparsity=0.8", structure="weights", latency=False, source=source)
    folder = found.save(tmp_path / "out", packed=True)
    assert torch.equal(output(pomona.load(folder), args), output(found.model, args))
    plain = found.save(tmp_path / "plain")
    size = {f: sum(file.stat().st_size for file in weight_files(f)) for f in (folder, plain)}
    assert size[folder] < 0.6 * size[plain]


def test_a_structured_and_sparse_model_of_unequal_layers_is_packed(tmp_path):
    """No config says such widths; the plan does, and the packed weights fill what it builds."""
    model, args = zoo.llama()
    once = pomona.prune(model, args, method="magnitude", structure="neurons", goal="params=0.8x", latency=False)
    with torch.no_grad():
        for p in once.model.parameters():
            p[p.abs() < p.abs().median()] = 0
    folder = once.save(tmp_path / "out", packed=True)
    assert torch.equal(output(pomona.load(folder), args), output(once.model, args))


def test_an_exported_folder_holds_everything_and_opens(sparse, saved, tmp_path):
    args, found = sparse
    told = export_folder(saved, tmp_path / "packed", packed=True)
    assert {p.name for p in saved.iterdir()} == {p.name for p in (tmp_path / "packed").iterdir()}
    assert told["weights"] > 0
    assert told["share"] < 0.62  # float32: 1/2 and a bit of 32, on rows of 16
    assert torch.equal(output(pomona.load(tmp_path / "packed"), args), output(found.model, args))
    export_folder(tmp_path / "packed", tmp_path / "again", packed=False)
    assert (tmp_path / "again" / "model.safetensors").read_bytes()[-5000:] == (saved / "model.safetensors").read_bytes()[-5000:]
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_the_plans_masks_decide_what_lives(sparse, saved, tmp_path):
    name, decision = next((n, d) for n, d in sparse[1].plan.decisions.items() if d.keep.any() and not d.keep.all())
    export_folder(saved, tmp_path / "packed", packed=True)
    assert torch.equal(Checkpoint.of(tmp_path / "packed").alive(name), decision.keep)


def test_weights_in_another_type_are_said_in_the_config(saved, tmp_path):
    export_folder(saved, tmp_path / "half", packed=True, dtype=torch.float16)
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert config["quantization_config"] == {"quant_method": "pomona", "format": 1}
    assert {Checkpoint.of(tmp_path / "half").tensor(n).dtype for n in Checkpoint.of(saved).names} == {torch.float16}


@pytest.mark.parametrize("file", ["model.safetensors", "pomona.json", "plan.safetensors"])
def test_a_damaged_packed_folder_is_refused(saved, tmp_path, file):
    export_folder(saved, tmp_path / "packed", packed=True)
    path = tmp_path / "packed" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError) as refusal:
        pomona.load(tmp_path / "packed")
    assert "\n" not in str(refusal.value)


def test_a_dense_model_is_not_called_packed(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "dense").mkdir()
    save_file({"weight": torch.ones(8, 8)}, tmp_path / "dense" / "model.safetensors")
    with pytest.raises(InputError, match="sparse enough"):
        export_folder(tmp_path / "dense", tmp_path / "out", packed=True)
    assert not (tmp_path / "out").exists()


def test_a_program_cannot_be_packed(tmp_path):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    found = pomona.prune(net, torch.randn(2, 8), goal="sparsity=0.5", structure="weights", latency=False)
    with pytest.raises(InputError, match="exported program"):
        found.save(tmp_path / "packed", packed=True)
    with pytest.raises(InputError, match="exported program"):
        export_folder(found.save(tmp_path / "plain"), tmp_path / "packed", packed=True)
    assert not (tmp_path / "packed").exists()


def test_a_streamed_folder_is_packed_by_its_masks_and_opens(tmp_path):
    """Its plans are many files, of which one at a time is read; a dead weight that was dead already stays dead."""
    model, data = language.model("llama")
    model.save_pretrained(tmp_path / "dense")
    streamed = prune_folder(tmp_path / "dense", tmp_path / "small", goal="sparsity=0.5", data=data)
    told = export_folder(tmp_path / "small", tmp_path / "packed", packed=True)
    checkpoint = Checkpoint.of(tmp_path / "packed")
    assert told["weights"] == len(streamed.plan.sites)
    assert all(torch.equal(checkpoint.alive(name), streamed.plan.keep(name)) for name in streamed.plan.sites)
    ours, theirs = pomona.load(tmp_path / "packed").state_dict(), pomona.load(tmp_path / "small").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_masks_come_from_the_file_that_has_them(sparse, saved):
    masks = Masks.of([saved / "plan.safetensors"])
    assert set(masks) == set(sparse[1].plan.sites) and len(masks) == len(sparse[1].plan.sites)
    assert all(torch.equal(mask, sparse[1].plan.keep(name)) for name, mask in masks.items())


def test_a_full_disk_is_said_in_a_sentence(saved, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pomona.runtime.packing.checkpoint.save_file", full)
    with pytest.raises(InputError, match="No space left"):
        export_folder(saved, tmp_path / "packed", packed=True)
    assert {path.name for path in tmp_path.iterdir()} == {"plain"}


def test_a_transformers_folder_is_loaded_too_but_not_one_that_lost_its_description(saved, tmp_path):
    model, _ = zoo.llama()
    model.save_pretrained(tmp_path / "theirs")
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in pomona.load(tmp_path / "theirs").state_dict().items())
    (saved / "pomona.json").unlink()
    with pytest.raises(InputError, match=r"no pomona\.json"):
        pomona.load(saved)


def test_what_a_solver_made_of_the_weights_is_not_carried_twice(tmp_path):
    model, args = zoo.llama()
    found = pomona.prune(model, args, method="sparsegpt", structure="2:4", goal="sparsity=0.5", data=[args], latency=False)
    saved, packed = found.save(tmp_path / "plain"), tmp_path / "packed"
    export_folder(saved, packed, packed=True)
    solved, left = (Plan.load(folder / "plan.safetensors") for folder in (saved, packed))
    assert any(d.tensors for d in solved.decisions.values()) and not any(d.tensors for d in left.decisions.values())
    assert all(torch.equal(solved.keep(site), left.keep(site)) for site in solved.sites)
    assert torch.equal(output(pomona.load(packed), args), output(found.model, args))

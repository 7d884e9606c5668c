"""A saved folder is the same model again, on another copy, or nothing at all."""

import json
import shutil

import pytest
import torch
from torch import nn

import pomona
import zoo
from pomona.face.saving import save_result
from pomona.models import Source
from pomona.vocabulary import InputError


def small(name, **wish):
    model, args = getattr(zoo, name)()
    return args, pomona.prune(model, args, method="magnitude-uniform", latency=False, **wish)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder to be copied, not touched."""
    return small("llama", structure="neurons", goal="params=0.8x")[1].save(tmp_path_factory.mktemp("saved") / "out")


def output(model, args):
    with torch.no_grad():
        out = model(**args) if isinstance(args, dict) else model(*args)
    return out if isinstance(out, torch.Tensor) else out[0]


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("resnet", {"structure": "channels", "goal": "params=0.5x"}),
        ("vit", {"structure": "heads+neurons", "goal": "params=0.7x"}),
        ("llama", {"structure": "axes", "goal": "params=0.5x"}),
        ("llama", {"structure": "2:4"}),
        ("bert", {"structure": "neurons", "goal": "params=0.8x"}),
        ("gpt2", {"structure": "layers", "goal": "params=0.9x"}),
    ],
)
def test_loading_gives_the_same_outputs_bit_for_bit(tmp_path, name, wish):
    args, result = small(name, **wish)
    result.save(tmp_path / "out")
    assert torch.equal(output(pomona.load(tmp_path / "out"), args), output(result.model, args))
    assert {"plan.safetensors", "pomona.json", "report.html", "report.json"} <= {p.name for p in (tmp_path / "out").iterdir()}
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert told["params"]["after"] == sum(p.numel() for p in result.model.parameters())


def test_a_function_is_rebuilt_and_the_plan_replayed(tmp_path):
    model, args = zoo.mobilenet()
    source = Source("function", "zoo:mobilenet")
    result = pomona.prune(model, args, method="l1-filters", goal="macs=0.5x", latency=False, source=source)
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/pomona.json").read_text())["form"] == "eager"
    assert torch.equal(output(pomona.load(tmp_path / "out"), args), output(result.model, args))


@pytest.mark.parametrize(
    ("name", "wish"), [("llama", {"structure": "neurons", "goal": "params=0.75x"}), ("bert", {"structure": "2:4"})]
)
def test_a_uniform_transformers_model_opens_with_plain_from_pretrained(tmp_path, name, wish):
    args, result = small(name, **wish)
    result.save(tmp_path / "out")
    assert (
        tmp_path / "out/config.json"
    ).is_file()  # without it, transformers would build the class's default of some 7e9 weights
    plain = type(result.model).from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert torch.equal(output(plain, args), output(result.model, args))


@pytest.mark.parametrize("file", ["model.safetensors", "plan.safetensors", "pomona.json", "example.safetensors"])
@pytest.mark.parametrize("harm", ["truncated", "missing"])
def test_a_damaged_folder_is_refused_in_one_sentence(saved, tmp_path, file, harm):
    path = shutil.copytree(saved, tmp_path / "out") / file
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError) as refusal:
        pomona.load(tmp_path / "out")
    assert "\n" not in str(refusal.value)


def test_weights_of_another_model_are_refused(tmp_path):
    _, one = small("llama", structure="neurons", goal="params=0.8x")
    _, two = small("llama", structure="neurons", goal="params=0.6x")
    a, b = one.save(tmp_path / "a"), two.save(tmp_path / "b")
    (a / "model.safetensors").write_bytes((b / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="checksum"):
        pomona.load(a)


def test_an_existing_folder_is_left_alone(tmp_path):
    _, result = small("vgg", structure="channels", goal="params=0.8x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        result.save(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
    with pytest.raises(InputError, match="cannot be written"):
        result.save(tmp_path / "out/mine/deeper")


def test_a_save_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    _, result = small("vgg", structure="channels", goal="params=0.8x")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pomona.vocabulary.Plan.save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_result(result, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_plan_replays_on_another_copy(tmp_path):
    from pomona.graph.masked import masked
    from pomona.vocabulary import Plan

    model, args = zoo.resnet()
    result = pomona.prune(model, args, method="l1-filters", goal="macs=0.5x", latency=False)
    result.plan.save(tmp_path / "plan.safetensors")
    again = masked(zoo.resnet()[0], Plan.load(tmp_path / "plan.safetensors"))
    assert torch.equal(output(again, args), output(result.masked(), args))


def test_a_folder_without_a_source_takes_batches_of_any_size(tmp_path):
    """The class is nobody's to rebuild, so the exported program is what is saved; the example's batch must not bind it."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    result = pomona.prune(net, torch.randn(2, 8), goal="params=0.5x", structure="neurons", latency=False)
    loaded = pomona.load(result.save(tmp_path / "out"))
    for rows in (1, 2, 5):
        x = torch.randn(rows, 8)
        assert torch.equal(loaded(x), result.model(x))

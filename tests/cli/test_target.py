"""`pomona prune --target cpu-sparse`: the sparse kernels behind the command line."""

import json
from types import SimpleNamespace

import pytest
import torch

import pomona
from pomona.native import using


class Fast:
    told = "1 of 2 layers run on sparse kernels."

    def table(self):
        return f"layer  runs as\n{self.told}"

    def document(self):
        return {"told": self.told}


@pytest.fixture
def result(face, monkeypatch, a_report):
    """A pruned model that remembers how it was accelerated and saved."""
    calls = {}

    def accelerate(**given):
        calls["accelerate"] = given
        return Fast()

    def accelerate_gpu(**given):
        calls["accelerate_gpu"] = given
        return Fast()

    def save(folder, **given):
        calls["save"] = given
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(made.report))

    made = SimpleNamespace(report=dict(a_report), accelerate=accelerate, accelerate_gpu=accelerate_gpu, save=save)
    monkeypatch.setitem(vars(pomona), "prune", lambda *_, **__: made)
    return calls


def test_the_result_is_accelerated_shown_and_saved(result, net, cli, tmp_path):
    asked = ("--target", "cpu-sparse", "--values", "int8", "--batch", "1", "--threads", "2", "-o", tmp_path / "out")
    ran = cli("prune", net, *asked)
    assert ran.code == 0, ran.err
    given = result["accelerate"]
    assert (given["values"], given["batch"], given["threads"], given["latency"]) == ("int8", 1, 2, True)
    assert isinstance(result["save"]["fast"], Fast) and "1 of 2 layers" in ran.out
    assert cli("prune", net, "--target", "cpu-sparse", "--json").json["accelerated"] == {"told": Fast.told}


@pytest.mark.parametrize("target", ["gpu-2:4", "gpu-sparse"])
def test_what_runs_on_a_gpu_is_shown_and_the_plain_weights_are_saved(result, net, cli, tmp_path, monkeypatch, target):
    monkeypatch.setattr("pomona.runtime.gpu.device.gpu_for", lambda name: name)
    ran = cli("prune", net, "--target", target, "--values", "bf16", "--batch", "4", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    given = result["accelerate_gpu"]
    assert (given["target"], given["values"], given["batch"], given["latency"]) == (target, "bf16", 4, True)
    assert result["save"] == {} and "1 of 2 layers" in ran.out and "accelerate" not in result


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("target", ["gpu-2:4", "gpu-sparse"])
def test_without_a_gpu_the_command_says_so_before_work_starts(result, net, cli, tmp_path, target):
    ran = cli("prune", net, "--target", target, "-o", tmp_path / "out")
    assert ran.code == 2 and f"The target {target} needs an NVIDIA GPU" in ran.err
    assert not result and not (tmp_path / "out").exists()


def test_without_a_target_nothing_is_accelerated(result, net, cli, tmp_path):
    assert cli("prune", net, "-o", tmp_path / "out").code == 0
    assert result == {"save": {}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--target", "cpu-spars"), "did you mean 'cpu-sparse'"),
        (("--target", "cpu-sparse", "--values", "int4"), "'int4' is not a kind of values"),
        (("--values", "int8"), "--target cpu-sparse"),
        (("--target", "gpu-2:4", "--values", "int8"), "not rounded to int8"),
        (("--target", "cpu-sparse", "--max-memory", "1GB", "-o", "out"), "--target needs the whole model in memory"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_work_starts(result, net, cli, asked, said):
    ran = cli("prune", net, *asked)
    assert ran.code == 2 and said in ran.err and not result


def test_without_kernels_the_command_says_that_nothing_pays(net, cli):
    with using(None):
        ran = cli("prune", net, "--goal", "sparsity=0.5", "--no-latency", "--target", "cpu-sparse")
    assert ran.code == 0, ran.err
    assert "Nothing is packed: there are no native kernels here" in ran.out

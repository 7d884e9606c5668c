"""The command line over the real face: prune, look, measure, export, on a net of the user's own."""

import pytest
import torch

import pomona

NETS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)), torch.randn(4, 6)

def data():
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 6, generator=g), torch.randint(0, 3, (16,), generator=g)) for _ in range(2)]
"""
WISH = ["nets.py:net", "--method", "l1-filters", "--structure", "neurons", "--goal", "params=0.5x"]
WISH += ["--data", "nets.py:data", "--no-latency"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_goes_through_every_command(here, cli):
    pruned = cli("prune", *WISH, "-o", "out", "--json")
    assert pruned.code == 0, pruned.err
    found = pruned.json
    assert found["params"]["after"] <= found["params"]["before"] * 0.5 and found["proof"]["passed"] and found["out"] == "out"
    assert found["quality"]["metric"] == "accuracy" and found["latency"] is None
    assert cli("report", "out", "--json").json["params"] == found["params"]
    assert cli("inspect", "out", "--json").json["params"] == found["params"]["after"]
    assert cli("eval", "out", "--data", "nets.py:data", "--json").json["value"] == pytest.approx(found["quality"]["after"])
    assert cli("export", "out", "--to", "pt2", "-o", "small.pt2", "--json").json["max_error"] == 0
    again = cli("prune", *WISH, "-o", "out")
    assert again.code == 2 and "exists already" in again.err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--goal", "macs=2x"], "between 0 and 1"),
        (["--goal", "sparsity=90%"], "not a number"),
        (["--method", "wandaa"], "did you mean 'wanda'"),
        (["--structure", "chanels"], "did you mean 'channels'"),
        (["--recover", "finetun:1epochs"], "did you mean 'finetune'"),
        (["--method", "taylor"], "loss"),
        (["--data", "nowhere/"], "There is no data"),
        (["--metric", "acuracy"], "is not a measure"),
        (["--input", "1,0"], "at least 1"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_bad_wishes_are_one_sentence_and_leave_nothing(changes, sentence, here, cli):
    ran = cli("prune", *WISH, *changes, "-o", "out")
    assert ran.code == 2, ran.err
    assert sentence in ran.err and "Traceback" not in ran.err and ran.out == ""
    assert sorted(p.name for p in here.iterdir() if p.name != "__pycache__") == ["nets.py"]


def test_an_unknown_model_is_refused(here, cli):
    ran = cli("prune", "nets.py:nett", "--goal", "params=0.5x")
    assert ran.code == 2 and "did you mean 'net'?" in ran.err


LONG = """
from pathlib import Path
from torch.nn.functional import cross_entropy

def loss(output, target, calls=[0]):
    calls[0] += 1
    if calls[0] == 12 and not Path("calm").exists():
        raise KeyboardInterrupt
    return cross_entropy(output, target)
"""


def test_an_interrupted_run_says_where_it_goes_on_and_ends_as_if_nothing_had_been(here, cli):
    (here / "nets.py").write_text(NETS + LONG)
    wish = [*WISH, "--method", "magnitude-iterative", "--loss", "nets.py:loss", "--recover", "finetune:2epochs"]
    ran = cli("prune", *wish, "--checkpoint", "kept", "-o", "out")
    assert ran.code == 130 and "out was not written; the same command goes on from kept" in ran.err, ran.err
    assert not (here / "out").exists()
    (here / "calm").touch()
    assert cli("prune", *wish, "--checkpoint", "kept", "-o", "out").code == 0
    assert cli("prune", *wish, "-o", "straight").code == 0
    example = torch.randn(4, 6)
    assert torch.equal(pomona.load(here / "out")(example), pomona.load(here / "straight")(example))
    other = cli("prune", *wish, "--seed", "1", "--checkpoint", "kept", "-o", "other")
    assert other.code == 2 and "another seed" in other.err and not (here / "other").exists()

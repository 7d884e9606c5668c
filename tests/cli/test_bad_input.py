"""Bad input through the real command line and the real face: one sentence in command-line words, exit code 2, nothing written."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pomona.structures import structure

NETS = """
import torch
from torch import nn

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
    def forward(self, x):
        y = self.linear(x)
        if y.sum() > 0:
            y = y + 1
        return y

def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.ones(2, 4)
def branching():
    return Branching(), torch.ones(2, 4)
def broken():
    raise OSError("weights.bin is missing")
def tokens():
    return nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)), torch.ones(2, 5, dtype=torch.int64)
def single():
    return nn.Linear(4, 3), torch.ones(2, 4)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with models and arrays of the user's own."""
    (tmp_path / "mine.py").write_text(NETS)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)).astype("float32"), rng.integers(0, 3, 20)
    np.savez(tmp_path / "ok.npz", x=x, y=y)
    np.savez(tmp_path / "far.npz", x=x, y=y + 7)
    np.savez(tmp_path / "nan.npz", x=np.full_like(x, np.nan), y=y)
    np.savez(tmp_path / "wide.npz", x=np.ones((20, 5), "float32"), y=y)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(ran, *said):
    assert ran.code == 2, ran.err
    last = ran.err.strip().splitlines()[-1]
    assert all(word in last for word in said), last
    assert "Traceback" not in ran.err and ran.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["mine.py:mlp", "--method", "taylor", "--data", "ok.npz"],
            ["The method 'taylor' needs gradients", "--loss cross-entropy"],
        ),
        (["mine.py:mlp", "--method", "taylor"], ["needs data and a loss", "--data and --loss"]),
        (["mine.py:mlp", "--method", "bonsai", "--data", "ok.npz"], ["The method 'bonsai' needs a loss", "--loss cross-entropy"]),
        (["mine.py:mlp", "--recover", "finetune:1epochs", "--data", "ok.npz"], ["The recovery FineTune", "--loss cross-entropy"]),
        (["mine.py:mlp", "--recover", "finetune:1epochs", "--data", "far.npz", "--loss", "cross-entropy"], ["0 to 2"]),
        (["mine.py:mlp", "--data", "nan.npz"], ["NaN"]),
        (["mine.py:mlp", "--data", "wide.npz"], ["does not fit the model"]),
        (["mine.py:mlp", "--method", "wandaa"], ["did you mean 'wanda'?"]),
        (["mine.py:mlp", "--min", "1.0"], ["Nothing may be removed", "--min"]),
        (["mine.py:broken"], ["mine.py:broken raised OSError: weights.bin is missing", "mine.py line"]),
        (["mine.py:branching", "--structure", "neurons"], ["Branching cannot be traced", "mine.py line", "`if y.sum() > 0:`"]),
        (["mine.py:single", "--structure", "channels"], ["nothing can be pruned", "frozen"]),
    ],
)
def test_what_is_wrong_and_what_would_be_right(arguments, said, here, cli):
    before = sorted(p.name for p in here.iterdir())
    refused(cli("prune", "--goal", "params=0.5x", "--no-latency", *arguments, "-o", "out"), *said)
    assert [p.name for p in sorted(here.iterdir()) if p.name != "__pycache__"] == before


def test_a_wish_is_read_before_the_model_is_traced(here, cli):
    ran = cli("prune", "mine.py:mlp", "--goal", "params=half", "-o", "out")
    refused(ran, "params=half")
    assert "tracing" not in ran.err


@pytest.mark.parametrize("data", ["wide.npz", "ok.npz"])
def test_eval_refuses_data_that_the_model_cannot_take(data, here, cli):
    refused(cli("eval", "mine.py:mlp" if data == "wide.npz" else "mine.py:tokens", "--data", data), "does not fit the model")


def test_comparing_needs_something_to_compare_with(here, cli):
    refused(cli("eval", "mine.py:mlp", "--data", "ok.npz", "--metric", "agreement"), "--dense")


@pytest.mark.parametrize("name", ["model.safetensors", "example.safetensors", "plan.safetensors"])
def test_one_flipped_byte_is_noticed(name, here, cli):
    assert cli("prune", "mine.py:mlp", "--goal", "params=0.5x", "--structure", "neurons", "--no-latency", "-o", "out").code == 0
    content = bytearray((here / "out" / name).read_bytes())
    content[-1] ^= 0x40
    (here / "out" / name).write_bytes(content)
    refused(cli("inspect", "out"), name, "checksum")


def test_a_source_that_has_changed_is_named_with_the_tensor_that_differs(here, cli):
    assert cli("prune", "mine.py:mlp", "--goal", "sparsity=0.5", "--no-latency", "-o", "out").code == 0
    (here / "mine.py").write_text(NETS.replace("nn.Linear(8, 3)", "nn.Linear(8, 4)"))
    refused(cli("inspect", "out"), "has changed", "2.weight")


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_writes_is_not(here, cli):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, living = here / f".out.{gone.pid}.partial", here / f".out.{os.getppid()}.partial"
    for folder in (dead, living):
        folder.mkdir()
    assert cli("prune", "mine.py:mlp", "--goal", "sparsity=0.5", "--no-latency", "-o", "out").code == 0
    assert living.exists() and not dead.exists() and (here / "out/pomona.json").exists()


SWALLOWS = """
import os, signal
def data():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt:
        raise ImportError("a library that was interrupted while it loaded")
"""


def test_an_interrupt_that_a_library_turned_into_an_error_is_still_an_interrupt(here):
    (here / "swallows.py").write_text(SWALLOWS)
    command = ["prune", "mine.py:mlp", "--goal", "sparsity=0.5", "--data", "swallows.py:data", "-o", "out", "--json"]
    ran = subprocess.run(
        [sys.executable, "-c", "from pomona.cli import main; main()", *command],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert ran.returncode == 130 and "Traceback" not in ran.stderr and not (here / "out").exists()
    assert json.loads(ran.stdout)["error"] == ran.stderr.strip().splitlines()[-1]
    assert ran.stderr.strip().endswith("Interrupted; nothing was written.")


def test_an_interrupt_while_typer_reads_the_command_line_is_told(monkeypatch, cli):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pomona.cli.app.Commands.resolve_command", interrupted)
    ran = cli("methods")
    assert ran.code == 130 and ran.err.strip() == "Interrupted; nothing was written."


def test_every_structure_that_the_help_names_can_be_written(cli):
    line = next(line for line in cli("prune", "--help").out.splitlines() if "block:" in line)
    named = [word.strip() for word in line.partition("weights,")[2].split(",") if word.strip() and "..." not in word]
    assert "block:16x1" in named and [structure(word) for word in named]

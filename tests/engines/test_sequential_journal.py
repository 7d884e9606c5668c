"""A run block by block that is killed goes on, and ends as if nothing had happened."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pomona
from blocky import blocky
from pomona.allocations.everywhere import Global
from pomona.recipes.language import wanda
from pomona.vocabulary import InputError

TESTS = str(Path(__file__).parents[1])
RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import deadly
import test_sequential_journal as t
t.prune(sys.argv[3], deadly.Deadly())
"""


def prune(checkpoint, progress=None, goal="sparsity=0.5"):
    model, data = blocky()
    wish = {"goal": goal, "data": data, "latency": False, "checkpoint": checkpoint, "progress": progress}
    return pomona.prune(model, data[0], method=wanda.but(allocation=Global()), **wish).model


def test_a_killed_run_goes_on_and_ends_bit_identical(tmp_path):
    command = [sys.executable, "-c", RUN, TESTS, str(Path(__file__).parent), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(path.name for path in left) == [f"{name}.safetensors" for name in ("block-0001", "block-0002", "counts")]
    resumed, whole = prune(tmp_path), prune(None)
    assert left == {path: path.stat().st_mtime_ns for path in left}, "blocks that were done have been done again"
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_the_blocks_of_another_run_are_refused(tmp_path):
    prune(tmp_path)
    with pytest.raises(InputError, match="another goal"):
        prune(tmp_path, goal="sparsity=0.6")

"""What a solver says that it takes in memory, which is told to users before a run, is not less than what it takes."""

import json
import subprocess
import sys

import pytest

from pomona import registry

RUN = """
import json, sys
import torch
from torch import nn
import pomona
from pomona import registry
from pomona.collect import collect
from pomona.engines.memory import Peak, frugal
from pomona.probes.tapping import groups
from pomona.structures.weights import Weights
from pomona.vocabulary import Batch, View
from pomona.vocabulary.beside import Twin
torch.set_num_threads(1)
method, shapes = sys.argv[1], json.loads(sys.argv[2])
solver = registry.recipe(method).solver
with frugal():
    for rows, columns in shapes:
        net, x = nn.Sequential(nn.Linear(columns, rows, bias=False)).eval(), torch.randn(2 * columns, columns)
        (site,) = Weights().sites(pomona.trace(net, x[:2]))
        (taps,) = groups(net, Batch((x,)), [site.name])
        stats = collect(net, [site], solver.needs, [Batch((x,), target=Twin(net, Batch((x,)), taps))])[site.name]
        weight = net[0].weight.detach()
        view = View(site, Weights(), {site.name: weight}, torch.ones(site.shape, dtype=torch.bool), stats)
        keep = weight.abs() > weight.abs().median(1, keepdim=True).values
        peak = Peak()
        solver.solve(view, keep)
        print(json.dumps(peak.bytes))
"""
SMALL, SHAPES = (64, 512), ((3000, 512), (300, 1536))  # weights count in the one, gram matrices in the other
PAGES = 6e6  # bytes that come and go between runs: code read from disk for the first time, heaps of libraries
METHODS = ["sparsegpt", "alps", "admm-update", "dsnot", "wanda-refit", "sparsegpt-asymmetric", "alps-asymmetric"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_solver_takes_no_more_than_it_says(method):
    working = registry.recipe(method).solver.working
    # The first call pays for what is loaded once.
    command = [sys.executable, "-c", RUN, method, json.dumps((SMALL, *SHAPES))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for (rows, columns), peak in zip(SHAPES, map(json.loads, run.stdout.split()[1:]), strict=True):
        gram = 8 * columns**2
        said = working.weight * rows * columns + (working.gram + 1) * gram + working.flat  # the root is counted apart
        assert peak <= 1.1 * said + PAGES, (rows, columns, peak / 1e6, said / 1e6)

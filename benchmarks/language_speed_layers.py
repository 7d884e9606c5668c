"""The linears of one block of a 1B-class Llama pruned with SparseGPT, beside the published code on the same inputs.

Both sum up what the linears read and prune, turn by turn in one process. The published code is imported from a clone; it wants
a GPU to wait for, so that its one call of `torch.cuda.synchronize` does nothing here, and what it prints is dropped.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pomona.solvers.sparsegpt import SparseGPT
from pomona.statistics.input_gram import InputGram
from pomona.structures.elements import element_site
from pomona.structures.n_m import NM
from pomona.structures.weights import Weights
from pomona.vocabulary import Gathered, Scores, Seen, Site, Structure, View, Weight

HIDDEN, INNER, KEYS = 2048, 8192, 512
READS = {  # what reads which input: (outputs, inputs)
    "attention": {"q": (HIDDEN, HIDDEN), "k": (KEYS, HIDDEN), "v": (KEYS, HIDDEN)},
    "heads": {"o": (HIDDEN, HIDDEN)},
    "mlp": {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN)},
    "neurons": {"down": (HIDDEN, INNER)},
}
PATTERNS: dict[str, Structure] = {"50 %": Weights(), "2:4": NM(2, 4)}


@dataclass
class Found:
    """Seconds of each round, and how the answers compare: shares of equal mask entries, layer errors, by linear."""

    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)
    their_error: dict[str, float] = field(default_factory=dict)
    our_error: dict[str, float] = field(default_factory=dict)


def inputs(batches: int, length: int) -> dict[str, list[Tensor]]:
    """Random inputs by reader, correlated and with a few features far larger than the others, as language models have them."""
    torch.manual_seed(0)
    made = {}
    for name, readers in READS.items():
        width = next(iter(readers.values()))[1]
        mix, size = torch.randn(256, width) / 16, torch.randn(width).exp()
        made[name] = [(torch.randn(length, 256) @ mix + torch.randn(length, width) / 2) * size for _ in range(batches)]
    return made


def weights() -> dict[str, Tensor]:
    """Random weights by linear."""
    torch.manual_seed(1)
    return {name: torch.randn(shape) / shape[1] ** 0.5 for readers in READS.values() for name, shape in readers.items()}


def published(folder: Path) -> Any:
    """The class `SparseGPT` of the published code, which lies in `folder`."""
    sys.path.insert(0, str(folder))
    torch.cuda.synchronize = lambda *_: None
    return importlib.import_module("sparsegpt").SparseGPT


def theirs(kind: Any, read: dict[str, list[Tensor]], dense: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    """The pruned weights, as `llama.py` of the published code makes them: one object a linear."""
    pruned = {}
    for source, readers in READS.items():
        layers = {name: nn.Linear(*reversed(shape), bias=False) for name, shape in readers.items()}
        for name, layer in layers.items():
            layer.weight.data = dense[name].clone()
            pruner = kind(layer)
            for x in read[source]:
                pruner.add_batch(x[None], None)
            with contextlib.redirect_stdout(io.StringIO()):
                pruner.fasterprune(0.5, *((2, 4) if pattern == "2:4" else (0, 0)))
            pruned[name] = layer.weight.data
    return pruned


def ours(read: dict[str, list[Tensor]], dense: dict[str, Tensor], structure: Structure) -> dict[str, Tensor]:
    """The pruned weights: as `collect` gathers, one gram for each tensor that is read, and as `decide` solves, site by site."""
    pruned = {}
    for source, readers in READS.items():
        first = site(*next(iter(readers.items())))
        state = None
        for x in read[source]:
            state = InputGram().update(state, first, Seen(1, inputs={first.name: x}))
        assert state is not None
        stats = Gathered({InputGram(): InputGram().value(state, first)})
        for name, shape in readers.items():
            view = View(site(name, shape), structure, {name: dense[name]}, torch.ones(shape, dtype=torch.bool), stats)
            count = torch.tensor(dense[name].numel() // 2)
            proposal = structure.select(view.site, Scores(dense[name].abs()), count)
            pruned[name] = SparseGPT().solve(view, proposal).tensors[name]
    return pruned


def site(name: str, shape: tuple[int, int]) -> Site:
    """The site of the single weights of one linear."""
    return element_site(Weight(name, "linear", shape, 0, 1))


def timed(work: Callable[[], Any], threads: int) -> tuple[float, Any]:
    """(seconds, answer): of the processor with one thread, so that nobody else counts, and of the clock with more."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    answer = work()
    return clock() - start, answer


def compare(folder: Path, threads: int, rounds: int, batches: int = 8, length: int = 2048) -> Iterator[tuple[str, Found]]:
    """Every pattern with its rounds so far, after each round; the answers are compared after the first."""
    torch.set_num_threads(threads)
    kind, read, dense = published(folder), inputs(batches, length), weights()
    found = {pattern: Found() for pattern in PATTERNS}
    for _ in range(rounds):
        for pattern, structure in PATTERNS.items():
            one = found[pattern]
            seconds, their = timed(lambda pattern=pattern: theirs(kind, read, dense, pattern), threads)
            one.theirs.append(seconds)
            seconds, our = timed(lambda structure=structure: ours(read, dense, structure), threads)
            one.ours.append(seconds)
            if not one.agreement:
                judge(one, read, dense, their, our)
            yield pattern, one


def judge(
    found: Found, read: dict[str, list[Tensor]], dense: dict[str, Tensor], their: dict[str, Tensor], our: dict[str, Tensor]
) -> None:
    """How far both answers agree, and what share of the outputs' energy each loses on the inputs, in the first batch."""
    for source, readers in READS.items():
        x = read[source][0]
        for name in readers:
            found.agreement[name] = float(((their[name] == 0) == (our[name] == 0)).float().mean())
            whole = float((x @ dense[name].T).square().sum())
            for errors, pruned in ((found.their_error, their), (found.our_error, our)):
                errors[name] = float((x @ (pruned[name] - dense[name]).T).square().sum()) / whole

"""Choosing who stays, and SparseGPT's sweep: Pomona beside what torch and numpy have; writes docs/results/selection.md.

`python -m benchmarks.selection` measures turn by turn in one process, seconds of the processor, one thread. Memory and whole
runs of `pomona.prune` are measured in processes of their own; `--before FOLDER`, a checkout of an earlier commit, adds a column
to these. `--billion` also selects among a billion weights, which takes 4 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

OUT = Path(__file__).parents[1] / "docs" / "results" / "selection.md"
Case = Mapping[str, Callable[[], object]]


def in_turn(case: Case, rounds: int) -> dict[str, str]:
    """Milliseconds of the processor: median, in brackets the least."""
    seconds: dict[str, list[float]] = {name: [] for name in case}
    for _ in range(rounds):
        for name, does in case.items():
            start = time.process_time()
            does()
            seconds[name].append(time.process_time() - start)
    return {name: f"{1e3 * median(own):.4g} ({1e3 * min(own):.4g})" for name, own in seconds.items()}


def threshold(weights: int) -> Iterator[tuple[str, Case]]:
    """Over all weights: the first of each is Pomona's, the last how long reading alone takes."""
    from pomona.native.masks import above
    from pomona.native.selection import smallest

    torch.manual_seed(0)
    flat, k = torch.randn(weights), round(0.9 * weights)
    found = smallest([flat], k, absolute=True)
    yield (
        f"exact k-th of {weights:,} |w|, 90 %",
        {
            "Pomona": lambda: smallest([flat], k, absolute=True),
            "torch kthvalue": lambda: flat.abs().kthvalue(k),
            "numpy partition": lambda: np.partition(flat.abs().numpy(), k - 1),
            "torch sum": lambda: flat.sum(),
        },
    )
    yield (
        "its mask",
        {
            "Pomona, bool": lambda: above(flat, found.value, 0, absolute=True),
            "Pomona, bits": lambda: above(flat, found.value, 0, absolute=True, packed=True),
            "torch": lambda: flat.abs() > found.value,
            "torch sum": lambda: flat.sum(),
        },
    )


def grids(width: int) -> Iterator[tuple[str, Case]]:
    """In rows and groups of a matrix of scores."""
    from pomona.native.masks import top
    from pomona.native.patterns import best_of

    scores = torch.rand(width, width, generator=torch.Generator().manual_seed(0))
    half = torch.full((width,), width // 2)
    yield (
        f"half of every row, {width} x {width}",
        {
            "Pomona": lambda: top(scores, half),
            "torch topk": lambda: torch.zeros(width, width, dtype=torch.bool).scatter_(
                1, scores.topk(width // 2, 1).indices, True
            ),
            "torch sort": lambda: torch.zeros(width, width, dtype=torch.bool).scatter_(
                1, scores.argsort(1)[:, width // 2 :], True
            ),
            "torch sum": lambda: scores.sum(),
        },
    )
    for n, m in ((2, 4), (4, 8)):
        groups = scores.view(-1, m, 1)
        yield (
            f"{n}:{m}, {width} x {width}",
            {
                "Pomona, bool": lambda groups=groups, n=n: best_of(groups, n),  # type: ignore[misc]
                "Pomona, bits": lambda groups=groups, n=n: best_of(groups, n, packed=True),  # type: ignore[misc]
                "torch topk": lambda groups=groups, n=n: torch.zeros_like(groups, dtype=torch.bool).scatter_(  # type: ignore[misc]
                    1, groups.topk(n, 1).indices, True
                ),
                "torch sum": lambda: scores.sum(),
            },
        )


def sparsegpt(width: int) -> Iterator[tuple[str, Case]]:
    """One layer, solved with the kernels and by torch alone."""
    from pomona.native import using
    from pomona.solvers.sparsegpt import SparseGPT
    from pomona.statistics.input_gram import InputGram
    from pomona.structures.elements import element_site
    from pomona.structures.n_m import NM
    from pomona.structures.weights import Weights
    from pomona.vocabulary import Gathered, Scores, View, Weight

    torch.manual_seed(0)
    inputs = torch.randn(4 * width, width) @ (torch.eye(width) + 0.3 * torch.randn(width, width) / width**0.5)
    values, gram = torch.randn(width, width), (inputs.T @ inputs).double()[None]
    site = element_site(Weight("w", "linear", (width, width), 0, 1))
    for structure in (Weights(), NM(2, 4)):
        seen = Gathered({InputGram(): gram})
        view = View(site, structure, {"w": values}, torch.ones(width, width, dtype=torch.bool), seen)
        keep = structure.select(site, Scores(values.abs()), torch.tensor(width * width // 2))

        def alone(view: View = view, keep: Tensor = keep) -> None:
            with using(None):
                SparseGPT().solve(view, keep)

        yield (
            f"SparseGPT, {width} x {width}, {'50 %' if isinstance(structure, Weights) else structure}",
            {"Pomona": lambda view=view, keep=keep: SparseGPT().solve(view, keep), "by torch alone": alone},  # type: ignore[misc]
        )


def memory(weights: int) -> dict[str, float]:
    """Of this process, which should be fresh: seconds and further MB at the most, for the exact k-th of |w|."""
    from pomona.native.selection import smallest

    flat = torch.randn(weights)
    smallest([flat[:1000]], 10)  # what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start, clock = _resident("VmHWM"), time.process_time(), time.perf_counter()
    smallest([flat], round(0.9 * weights), absolute=True)
    return {"cpu": time.process_time() - start, "wall": time.perf_counter() - clock, "mb": (_resident("VmHWM") - before) / 1024}


def _resident(what: str) -> int:
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def pruned(depth: int = 6, width: int = 1024) -> dict[str, float]:
    """Seconds of the processor of whole runs of `pomona.prune`, without the import."""
    import pomona

    torch.manual_seed(0)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))]
    model, data, taken = nn.Sequential(*layers), [torch.randn(64, width) for _ in range(4)], {}
    pomona.prune(nn.Linear(8, 8), torch.randn(2, 8), goal="sparsity=0.5", latency=False)  # what is loaded once
    for method in ("magnitude", "wanda"):
        start = time.process_time()
        given = data if method == "wanda" else None
        pomona.prune(model, data[0], method=method, goal="sparsity=0.5", data=given, latency=False)
        taken[method] = time.process_time() - start
    return taken


def apart(what: str, source: Path | None = None, *more: str) -> dict[str, float]:
    """The same in a fresh process, with Pomona from `source`."""
    known = {**os.environ, **({"PYTHONPATH": str(source / "src")} if source else {})}
    command = [sys.executable, __file__, "--only", what, *more]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=known).stdout)


def page(rows: list[str], peaks: list[str], runs: list[str]) -> str:
    """The page of results."""
    return "\n".join([
        "# Choosing who stays",
        "",
        "`python -m benchmarks.selection --billion --before FOLDER`, FOLDER a checkout of the commit before the kernels",
        f"(f4e6320). torch {torch.__version__}, Python {platform.python_version()}, one thread. The machine was shared while",
        "this ran: only ratios within a row say something, `torch sum` being how long reading the same values once took by then.",
        "",
        "Milliseconds of the processor, turn by turn: median (least).",
        "",
        *rows,
        "",
        "Memory: one selection of the exact k-th of |w| at 90 %, in a process of its own; MB beyond the weights at the peak.",
        "",
        "| weights | processor s | wall s | MB | of the weights |",
        "| --- | --- | --- | --- | --- |",
        *peaks,
        "",
        "Whole runs of `pomona.prune`, 50 M weights in twelve linears, 50 %, with tracing, proof and report: seconds of the",
        "processor, in processes of their own, turn by turn; median (least).",
        "",
        "| method | before | now |",
        "| --- | --- | --- |",
        *runs,
        "",
    ])  # fmt: skip


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=100_000_000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--billion", action="store_true")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--only", choices=["memory", "prune"], help="of this process, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.only:
        print(json.dumps(memory(given.weights) if given.only == "memory" else pruned()))
        return
    rows = []
    for title, case in chain(threshold(given.weights), grids(given.width), sparsegpt(given.width // 2)):
        rows.append(f"- **{title}**: " + ", ".join(f"{name} {ms}" for name, ms in in_turn(case, given.rounds).items()))
        print(rows[-1], file=sys.stderr)
    peaks = []
    for weights in (given.weights, *([1_000_000_000] if given.billion else [])):
        it = apart("memory", None, "--weights", str(weights))
        share = it["mb"] * 2**20 / (4 * weights)
        peaks.append(f"| {weights:,} | {it['cpu']:.3f} | {it['wall']:.3f} | {it['mb']:.1f} | {share:.2%} |")
    runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    for _ in range((given.rounds + 1) // 2 if given.before else 1):
        if given.before:
            runs["before"].append(apart("prune", given.before))
        runs["now"].append(apart("prune"))
    lines = []
    for method in ("magnitude", "wanda"):
        told = [[one[method] for one in runs[when]] for when in ("before", "now")]
        lines.append(f"| {method} | " + " | ".join(f"{median(t):.2f} ({min(t):.2f})" if t else "-" for t in told) + " |")
    OUT.write_text(page(rows, peaks, lines))
    print(OUT)


if __name__ == "__main__":
    main()

"""Goals in latency against what is measured afterwards: `python -m benchmarks.latency_goals`.

Each model is pruned to `latency=GOAL` by the default method and then timed once more, apart from all that the run measured
while aiming: dense and pruned turn by turn, until the median ratio is known within half a percent. With one thread the clock
is that thread's own, so that a busy machine costs time and not truth. Every row is written to docs/results/latency_goals.md as
soon as it is there; `--resume` keeps those that the page has from this machine. Three to five minutes where nothing else runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

import pomona
from pomona.models import load_model
from pomona.runtime import machine
from pomona.runtime.inputs import resized
from pomona.runtime.timing import Pairs, own_clock, threads_set, time_pairs
from pomona.vocabulary import Silent

OUT = Path(__file__).parents[1] / "docs" / "results" / "latency_goals.md"
MODELS = ("resnet50", "mobilenetv2_100", "vit_tiny_patch16_224")
HEAD = (
    "model",
    "batch",
    "goal",
    "measured",
    "known to",
    "off the goal",
    "first shot",
    "shots",
    "dense ms",
    "pruned ms",
    "MACs left",
    "least share",
    "seconds",
)
ABOUT = """\
Random weights, the default method for such goals, one run a row. `measured` is the median over pairs of passes, dense and
pruned turn by turn, after the run; `known to` is half of its 95 % interval. `first shot` is what the plan left that op times
alone foretold to meet the goal, and `shots` counts the plans that were timed until one did. `least share` is what the narrowest
axis keeps of its units. `seconds` is the whole run: trace, op times that were new, cuts, the timing of each, proof."""
_PAIRS, _SECONDS, _ENOUGH = 80, 12.0, 0.005


@dataclass
class Watch(Silent):
    """Says on stderr what the run says, and counts the plans that it timed while aiming."""

    shots: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """One sentence of the run."""
        print(f"  {text}", file=sys.stderr, flush=True)
        if text.startswith("As measured"):
            self.shots.append(text.partition(" leaves ")[2].split()[0])


def row(name: str, batch: int, goal: float, threads: int) -> tuple[str, ...]:
    """One model pruned and measured."""
    torch.manual_seed(0)
    loaded = load_model(f"timm:{name}")
    assert loaded.example is not None
    (args, kwargs), watch = loaded.example, Watch()
    options: Mapping[str, Any] = {"batch": batch, "threads": threads, "pairs": 5, "seconds": 0.1}
    start = perf_counter()
    result = pomona.prune(loaded.model, args, kwargs, goal=f"latency={goal:g}x", latency=options, progress=watch)
    seconds = perf_counter() - start
    timed = again(result.dense, result.model, *resized(args, kwargs, batch), threads)
    return (*_measured(name, batch, goal, timed, watch.shots), *_left(result), f"{seconds:.0f}")


@torch.inference_mode()
def again(dense: nn.Module, small: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], threads: int) -> Pairs:
    """Both models timed turn by turn."""
    dense.eval(), small.eval()
    with threads_set(threads):
        return time_pairs(
            lambda: dense(*args, **kwargs),
            lambda: small(*args, **kwargs),
            _PAIRS,
            _SECONDS,
            1,
            Silent(),
            own_clock(),
            _ENOUGH,
        )


def _measured(name: str, batch: int, goal: float, timed: Pairs, shots: Sequence[str]) -> tuple[str, ...]:
    ratio, (before, after) = _median(timed.ratios), (1e3 * _median(sorted(side)) for side in (timed.before, timed.after))
    return (
        name,
        f"{batch}",
        f"{goal:.2f}",
        f"{ratio:.3f}",
        f"{timed.doubt:.1%}",
        f"{ratio / goal - 1:+.1%}",
        shots[0],
        f"{len(shots)}",
        f"{before:.1f}",
        f"{after:.1f}",
    )


def _left(result: pomona.Result) -> tuple[str, ...]:
    macs = result.report.macs
    least = min(float(result.plan.keep(name).float().mean()) for name in result.plan.sites)
    return f"{macs.after / macs.before:.2f}", f"{least:.2f}"


def _median(ascending: Sequence[float]) -> float:
    half = len(ascending) // 2
    return (ascending[half] + ascending[~half]) / 2


def page(rows: Sequence[Sequence[str]], command: str) -> str:
    """The page in markdown."""
    table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    return "\n".join(
        [
            "# Goals in latency",
            "",
            ABOUT,
            "",
            f"{_here()}, {date.today().isoformat()}. Made by `{command}`.",
            "",
            *table,
            "",
        ]
    )


def _here() -> str:
    here = machine()
    return f"{here['cpu']}, torch {here['torch']}"


def finished(text: str, command: str) -> list[tuple[str, ...]]:
    """The rows of a page that the same command made on this machine, or none."""
    if _here() not in text or f"Made by `{command}`" not in text:
        return []
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line.startswith("| ")]
    return [found for found in cells if len(found) == len(HEAD) and found[0] in MODELS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prune, measure, print, write; a part of the models is only printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all where none is named")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--goal", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="keep the rows that the page has from this machine")
    given = parser.parse_args(arguments)
    command = f"python -m benchmarks.latency_goals --goal {given.goal:g} --threads {given.threads}"
    rows = finished(OUT.read_text(), command) if given.resume and OUT.is_file() else []
    there = {(name, batch) for name, batch, *_ in rows}
    print(" | ".join(HEAD))
    for name in given.models or MODELS:
        for batch in given.batch:
            if (name, f"{batch}") not in there:
                rows.append(row(name, batch, given.goal, given.threads))
                print(" | ".join(rows[-1]), flush=True)
                if not given.models:
                    OUT.parent.mkdir(parents=True, exist_ok=True)
                    OUT.write_text(page(rows, command))


if __name__ == "__main__":
    main()

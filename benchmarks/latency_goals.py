"""Goals in latency against what is measured afterwards: `python -m benchmarks.latency_goals`.

Each model is pruned to `latency=GOAL` and then timed once more, apart from all that the run measured while aiming: dense and
pruned turn by turn, on the wall clock. Run it on a machine that does nothing else (4
minutes). Writes docs/results/latency_goals.md; with names of models it only prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import pomona
from pomona.models import load_model
from pomona.runtime import machine, measure_latency

OUT = Path(__file__).parents[1] / "docs" / "results" / "latency_goals.md"
MODELS = {"resnet50": "channels", "mobilenetv2_100": "channels", "vit_tiny_patch16_224": "heads+neurons"}
HEAD = (
    "model",
    "batch",
    "goal",
    "foretold",
    "measured",
    "10 % to 90 %",
    "off the goal",
    "dense ms",
    "pruned ms",
    "MACs left",
    "seconds",
)


def row(name: str, batch: int, goal: float, threads: int) -> tuple[str, ...]:
    """One model pruned and measured."""
    loaded = load_model(f"timm:{name}")
    assert loaded.example is not None
    args, kwargs = loaded.example
    options: Mapping[str, Any] = {"batch": batch, "threads": threads}
    start = perf_counter()
    result = pomona.prune(
        loaded.model, args, kwargs, method="l1-filters", structure=MODELS[name], goal=f"latency={goal:g}x", latency=options
    )
    seconds = perf_counter() - start
    timed = measure_latency(result.dense, result.model, args, kwargs, **options, pairs=40, seconds=10.0)
    macs, foretold = result.report.macs, result.plan.provenance["price"]
    return (
        name,
        f"{batch}",
        f"{goal:.2f}",
        f"{foretold['after'] / foretold['before']:.3f}",
        f"{timed.ratio:.3f}",
        f"{timed.spread[0]:.3f} to {timed.spread[1]:.3f}",
        f"{timed.ratio / goal - 1:+.1%}",
        f"{timed.before_ms:.1f}",
        f"{timed.after_ms:.1f}",
        f"{macs.after / macs.before:.2f}",
        f"{seconds:.0f}",
    )


def page(rows: Sequence[Sequence[str]], command: str) -> str:
    """The page in markdown."""
    here = machine()
    table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    return "\n".join(
        [
            "# Goals in latency",
            "",
            "Random weights; L1 norms of filters, the same share everywhere; one run a row. `foretold` is what the op times say",
            "of the final plan, `measured` the median over pairs of passes, dense and pruned turn by turn, after the run.",
            "`seconds` is the whole run: trace, op times, cuts, realising and timing each of them, proof.",
            "",
            f"{here['cpu']}, torch {here['torch']}, {date.today().isoformat()}. Made by `{command}`.",
            "",
            *table,
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prune, measure, print; write the page when all models were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all where none is named")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--goal", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    rows = []
    print(" | ".join(HEAD))
    for name in given.models or MODELS:
        for batch in given.batch:
            rows.append(row(name, batch, given.goal, given.threads))
            print(" | ".join(rows[-1]), flush=True)
    if not given.models:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        command = f"python -m benchmarks.latency_goals --goal {given.goal:g} --threads {given.threads}"
        OUT.write_text(page(rows, command))


if __name__ == "__main__":
    main()

"""The CPU runtime beside the best dense engines: `python -m benchmarks.cpu_runtime`.

Rows are added to docs/results/cpu_runtime/rows.jsonl as soon as they are there and docs/results/cpu_runtime.md is made from
them; runs of the same machine, versions and kernels are kept, so that it may be broken off and go on. DeepSparse needs a Python
of its own (3.8 to 3.11, with deepsparse 1.8.0), named by `--deepsparse`; without it, and where OpenVINO is not installed, their
lines are left out. `--quick` makes three rounds of each, elsewhere, to see that all goes well.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.cpu_runtime import rows as kept
from benchmarks.cpu_runtime.cells import settings
from benchmarks.cpu_runtime.measure import measured
from benchmarks.cpu_runtime.page import page

from pomona.native import library
from pomona.runtime.roofline import roofline

OUT = Path(__file__).parents[2] / "docs" / "results"
ROUNDS = 21


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="runs whose names hold all of these")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="three rounds, not into the docs")
    parser.add_argument("--deepsparse", type=Path, metavar="PYTHON", help="a Python that has DeepSparse")
    parser.add_argument("--out", type=Path, default=None, metavar="FOLDER", help=f"where the page and rows go [default: {OUT}]")
    parser.add_argument("--page", action="store_true", help="only make the page")
    given = parser.parse_args(arguments)
    out = given.out or (Path(tempfile.gettempdir()) / "pomona_cpu_runtime" if given.quick else OUT)
    path, rounds = out / "cpu_runtime" / "rows.jsonl", 3 if given.quick else given.rounds
    notes: list[str] = []
    if not given.page:
        _measure(given, path, rounds, notes)
    if given.deepsparse is None:
        notes.append("DeepSparse, which was not named by `--deepsparse`.")
    made = out / "cpu_runtime.md"
    made.parent.mkdir(parents=True, exist_ok=True)
    rows = _ordered(kept.read(path))
    made.write_text(page(rows, notes, _command(out, rows)), encoding="utf-8")
    print(made)


def _command(out: Path, rows: Sequence[kept.Row]) -> str:
    """What makes such rows in such a place; those that were made with more rounds than others stay."""
    words, least = ["python -m benchmarks.cpu_runtime"], min((row.rounds for row in rows), default=ROUNDS)
    if any(result.side == "deepsparse" for row in rows for result in row.results):
        words.append("--deepsparse PYTHON")
    if out.resolve() != OUT:
        root = OUT.parents[1]
        words.append(f"--out {out.resolve().relative_to(root) if out.resolve().is_relative_to(root) else out}")
    return " ".join(words + ([f"--rounds {least}"] if least != ROUNDS else []))


def _measure(given: argparse.Namespace, path: Path, rounds: int, notes: list[str]) -> None:
    now = kept.here()
    there = {row.setting for row in kept.read(path) if row.machine == now and row.rounds >= rounds}
    print(f"kernels: {library().isa or library().reason}", flush=True)

    def note(text: str) -> None:
        notes.append(text)
        print(f"  {text}", flush=True)

    for count in given.threads:
        roofline(count, fresh=True)
    for setting in settings(tuple(given.threads)):
        if setting not in there and all(word in str(setting) for word in given.only):
            start = perf_counter()
            kept.append(path, measured(setting, rounds, given.deepsparse, note))
            print(f"{setting}: {perf_counter() - start:.0f} s", flush=True)


def _ordered(rows: list[kept.Row]) -> list[kept.Row]:
    order = {setting: place for place, setting in enumerate(settings(tuple(range(1, 65))))}
    return sorted(rows, key=lambda row: order.get(row.setting, len(order)))


if __name__ == "__main__":
    main()

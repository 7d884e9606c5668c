"""The table of language models: `python -m benchmarks.language_models --workers 2 --authors FOLDER`.

Rows are added to docs/results/language_models/ as soon as they are there, and docs/results/language_models.md is made from them;
rows of the same protocol are kept, so a run may be broken off and go on. Without `--authors` their rows are left out.
`--page` makes the page and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.language_models import rows as kept
from benchmarks.language_models.measure import MODELS, Bench
from benchmarks.language_models.methods import AUTHORS, METHODS, ONE_SEED, ORDER, POINTS, points
from benchmarks.language_models.page import page
from benchmarks.language_models.pool import measured
from benchmarks.language_models.rows import CALIBRATION, Protocol, Row, Wanted
from benchmarks.language_models.text import DEFAULT, Text, read

from pomona.vocabulary import InputError

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "results" / "language_models"


def wished(given: argparse.Namespace) -> list[Wanted]:
    """The rows that the command asks for, those first that the claims rest on: seed by seed, so that a part is a table."""
    methods = [m for m in ORDER if m in given.only and (m not in AUTHORS or given.authors)]
    found = [
        Wanted(given.model, method, point, seed)
        for seed, point, method in product(given.seeds, ("dense", *given.points), methods)
        if point in points(method) and (seed == 0 or method not in ONE_SEED)
    ]
    return found


def commit() -> str:
    """Of the code that is run, with a mark where it has been changed since."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then make the page. 1 where a row failed."""
    of_points = ", ".join(POINTS).replace("%", "%%")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(MODELS), default="smollm2")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--points", nargs="+", choices=POINTS, default=POINTS, metavar="POINT", help=f"of {of_points}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calibration", type=int, default=CALIBRATION, metavar="WINDOWS", help="to calibrate on")
    parser.add_argument("--text", type=Path, default=DEFAULT, help="the unpacked package, or any text")
    parser.add_argument("--authors", type=Path, metavar="FOLDER", help="where the clones `wanda` and `sparsegpt` are")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread and 4 GB each")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="MINUTES", help="begin no row after so long")
    parser.add_argument("--rows", type=Path, default=ROWS, help="the folder of the rows")
    parser.add_argument("--page", action="store_true", help="only make the page")
    given, failed = parser.parse_args(arguments), 0
    if not given.page:
        failed = _measure(given, read(given.text))
    made = given.rows.parent / f"{given.rows.name}.md"
    made.write_text(page(kept.read(given.rows)), encoding="utf-8")
    print(made)
    return 1 if failed else 0


def _measure(given: argparse.Namespace, text: Text) -> int:
    protocol = Protocol(text.checksum, given.calibration)
    wanted = kept.missing(wished(given), kept.read(given.rows, protocol))
    bench = Bench(given.model, text, protocol, commit(), given.authors and given.authors.resolve())
    failed, until = 0, time.monotonic() + 60 * given.limit
    for number, found in enumerate(measured(bench, wanted, given.workers, until), 1):
        if isinstance(found, Row):
            kept.append(given.rows, found)
            said = f"{found.method} {found.point} seed {found.seed}: {found.perplexity:.3f} in {found.seconds:.0f} s"
        else:
            failed += 1
            said = f"{found[0].method} {found[0].point} seed {found[0].seed} failed: {type(found[1]).__name__}: {found[1]}"
        print(f"[{number}/{len(wanted)}] {said}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers', which are born with it
    try:
        sys.exit(main())
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

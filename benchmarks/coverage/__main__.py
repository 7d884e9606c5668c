"""The coverage table: `python -m benchmarks.coverage [PATTERN ...] [--jobs 2] [--fresh]` writes docs/results/coverage.md.

Every model is examined in a process of its own, with a time limit, so that one that hangs or dies is a row and nothing more. Rows
are kept in `.coverage/`; what is there already is not done again unless `--fresh` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.coverage.examine import Row
from benchmarks.coverage.models import names
from benchmarks.coverage.table import page

ROOT = Path(__file__).parents[2]
ROWS = ROOT / ".coverage"
LIMIT = 600  # seconds a model, checks included


def examined(name: str, fresh: bool) -> Row:
    """The row of a model, from its file if it is there."""
    kept = ROWS / f"{name.replace(':', '-')}.json"
    if kept.exists() and not fresh:
        row: Row = json.loads(kept.read_text())
        return row
    command = [sys.executable, "-m", "benchmarks.coverage.examine", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        row = (
            json.loads(lines[-1])
            if lines
            else {"name": name, "failure": f"died with code {done.returncode}: {done.stderr[-300:]}"}
        )
    except subprocess.TimeoutExpired:
        row = {"name": name, "failure": f"not finished after {LIMIT} s"}
    kept.write_text(json.dumps(row) + "\n")
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Examine what matches, then write the page from every row that there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="names such as 'timm:*' or 'transformers:llama'")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="examine again what has a row already")
    given = parser.parse_args(arguments)
    ROWS.mkdir(exist_ok=True)
    wanted = [name for name in names() if any(fnmatch(name, pattern) for pattern in given.patterns)]
    with ThreadPoolExecutor(given.jobs) as pool:
        for number, row in enumerate(pool.map(lambda name: examined(name, given.fresh), wanted), 1):
            said = row.get("failure") or f"{row['form']}, error {row['error']:.0e}, {row['cpu_seconds']:.1f} s"
            print(f"[{number}/{len(wanted)}] {row['name']}: {said}", flush=True)
    rows = [examined(name, False) for name in names() if (ROWS / f"{name.replace(':', '-')}.json").exists()]
    out = ROOT / "docs" / "results" / "coverage.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(rows))


if __name__ == "__main__":
    main()

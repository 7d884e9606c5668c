"""The best that is to be had without training, and what made it: step by step, with as many windows as it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.language_models.grid import by_processor, grid, told
from benchmarks.language_models.rows import CALIBRATION, Row
from benchmarks.language_models.table import Table

STEPS = ("sparsegpt", "alps", "alps-refit", "sparsegpt-asymmetric", "alps-asymmetric", "alps-asymmetric-swaps")
AT = ("2:4", "50 %")
HOUR = 2 * 3600  # seconds of one core in an hour of two
WHY = """\
SparseGPT and ALPS make each layer repeat what its dense weight would give on what the cut layers before it give, so every
layer adds its error to theirs. `asymmetric` solves it for what the dense model *has* in its place, and, where a layer adds
to the residual stream, for the whole stream behind it: errors are taken back where they can be. That is least squares on
few tokens, so it is strongly damped, the less the more windows there are (`--calibration N`). Tokens of enormous activation
count for more than their share (`probes/paired.py`), which costs half a percent with most seeds and saves a fifth with others.
Means over the seeds that are there; `seconds` is the processor time of one core."""


def best(rows: Sequence[Row]) -> Iterator[str]:
    """A section for every model and text that have such rows."""
    for model, text in dict.fromkeys((row.model, row.protocol.text) for row in rows):
        own = [row for row in rows if (row.model, row.protocol.text) == (model, text)]
        steps = [row for row in own if row.method in STEPS and row.point in AT]
        if not any("asymmetric" in row.method for row in steps):
            continue
        yield f"## {model}: the best without training"
        quick = by_windows([row for row in steps if row.seconds <= HOUR])
        usual = Table.of([row for row in own if row.protocol.calibration == CALIBRATION])
        yield " ".join(found for point in AT if (found := _lowest(quick, usual, point)))
        yield WHY
        lines = [
            (m, str(windows), *(told(table.mean(m, point), ".2f") for point in AT), by_processor(table.seconds(m)))
            for windows, table in by_windows(steps).items()
            for m in STEPS
            if table.seconds(m)
        ]
        yield grid(("method", "windows", *AT, "seconds"), lines)


def by_windows(rows: Sequence[Row]) -> dict[int, Table]:
    """How many windows calibrated -> the rows, few windows first."""
    windows = sorted({row.protocol.calibration for row in rows})
    return {count: Table.of([row for row in rows if row.protocol.calibration == count]) for count in windows}


def _lowest(quick: Mapping[int, Table], usual: Table, point: str) -> str:
    """A sentence, "" where nothing was that quick."""
    means = {(m, n): mean for n, table in quick.items() for m in STEPS if (mean := table.mean(m, point)) is not None}
    if not means:
        return ""
    (method, windows), lowest = min(means.items(), key=lambda item: item[1])
    others = (("SparseGPT", usual.mean("sparsegpt", point)), ("dense", usual.mean("dense", "dense")))
    beside = ", ".join(f"{name} {value:.2f}" for name, value in others if value)
    return f"The lowest perplexity at {point} is **{lowest:.2f}** ({beside}): `{method}` with {windows} windows."

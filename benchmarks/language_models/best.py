"""The best that is to be had without training, and what made it: step by step, with as many windows as it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.language_models.grid import grid
from benchmarks.language_models.rows import CALIBRATION, Row

STEPS = ("sparsegpt", "alps", "alps-refit", "sparsegpt-asymmetric", "alps-asymmetric", "alps-asymmetric-swaps")
AT = ("2:4", "50 %")
HOUR = 2 * 3600  # seconds of one core in an hour of two
WHY = """\
SparseGPT and ALPS make each layer repeat what its dense weight would give on what the cut layers before it give, so every
layer adds its error to theirs. `asymmetric` solves it for what the dense model *has* in its place, and, where a layer adds
to the residual stream, for the whole stream behind it: errors are taken back where they can be. That is least squares on
few tokens, so it wants strong damping, and more windows (`--calibration N`) go further with it. Means over the seeds that
are there; `seconds` is the processor time of one core."""


def best(rows: Sequence[Row]) -> Iterator[str]:
    """A section for every model and text that have such rows."""
    for model, text in dict.fromkeys((row.model, row.protocol.text) for row in rows):
        own = [row for row in rows if (row.model, row.protocol.text) == (model, text)]
        steps = [row for row in own if row.method in STEPS and row.point in AT]
        if not any("asymmetric" in row.method for row in steps):
            continue
        yield f"## {model}: the best without training"
        yield " ".join(_lowest(own, steps, point) for point in AT if any(row.point == point for row in steps))
        yield WHY
        keys = sorted({(row.protocol.calibration, STEPS.index(row.method)) for row in steps})
        lines = [_line(steps, STEPS[number], windows) for windows, number in keys]
        yield grid(("method", "windows", *AT, "seconds"), lines)


def _lowest(rows: Sequence[Row], steps: Sequence[Row], point: str) -> str:
    """Within an hour of two cores."""
    found = [row for row in steps if row.point == point and row.seconds <= HOUR]
    names = dict.fromkeys((row.method, row.protocol.calibration) for row in found)
    means = {name: value for name in names if (value := _mean(found, *name, point)) is not None}
    (method, windows), lowest = min(means.items(), key=lambda item: item[1])
    plain, dense = _mean(rows, "sparsegpt", CALIBRATION, point), _mean(rows, "dense", CALIBRATION, "dense")
    beside = ", ".join(f"{name} {value:.2f}" for name, value in (("SparseGPT", plain), ("dense", dense)) if value)
    return f"The lowest perplexity at {point} is **{lowest:.2f}** ({beside}): `{method}` with {windows} windows."


def _line(rows: Sequence[Row], method: str, windows: int) -> list[str]:
    own = [row for row in rows if row.method == method and row.protocol.calibration == windows]
    cells = ["" if (value := _mean(own, method, windows, point)) is None else f"{value:.2f}" for point in AT]
    return [method, str(windows), *cells, f"{fmean(row.seconds for row in own):.0f}"]


def _mean(rows: Sequence[Row], method: str, windows: int, point: str) -> float | None:
    found = [row.perplexity for row in rows if (row.method, row.protocol.calibration, row.point) == (method, windows, point)]
    return fmean(found) if found else None

"""The page: tables made from rows, and what was claimed of them, held against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.language_models.authors import GET
from benchmarks.language_models.best import best
from benchmarks.language_models.claims import claims
from benchmarks.language_models.grid import by_processor, grid, told
from benchmarks.language_models.methods import METHODS, ONE_SEED, PATTERNS, SIZES, SMALLER, SPARSITIES
from benchmarks.language_models.rows import CALIBRATION, Protocol, Row
from benchmarks.language_models.table import Table
from benchmarks.language_models.text import ONE_LINER

COMMAND = "python -m benchmarks.language_models --workers 2 --authors FOLDER"
_SPARSE = tuple(m for m in METHODS if m not in ("dense", *SMALLER))
_POINTS = (*SPARSITIES, *PATTERNS)
ABOUT = f"""\
Made by `{COMMAND}` from the rows in `language_models/`, which it adds to and keeps. Perplexity on windows that are
the same for all rows; what calibrates is drawn anew by each seed from the other half of the text, at random places,
as SparseGPT and Wanda draw it. A cell is the mean over the seeds, ± half of the range between the lowest and the
highest; a number in brackets counts the seeds where there are not three, and where neither chance nor calibration has
a say, one stands for all. Sparse means the linear layers of the blocks: embeddings and head stay whole. `seconds` is
the processor time of pruning on one thread, calibration and proof included (the authors' code proves nothing), with the
processor where it was kept; the others are of one with AVX-512.

The text is the Debian package `anarchism`: its paragraphs of at least 200 characters, in order, the front half to
calibrate, the back half to measure on. It is likely to be in what the models were trained on: compare a row with the
dense one, and take no number for a benchmark of the model. `--text` takes any other text. `authors-wanda` and
`authors-sparsegpt` are the authors' own code on the same model and windows, with nothing of it changed; what is put
around it to run with transformers of today is in `benchmarks/language_models/authors.py`. To repeat all of it:

```sh
{ONE_LINER}
{GET}
{COMMAND}
```"""


def page(rows: Sequence[Row]) -> str:
    """The page in markdown, a section for every model and protocol."""
    parts = ["# Language models", ABOUT, *best(rows)]
    for model, protocol in dict.fromkeys((row.model, row.protocol) for row in rows):
        parts += _section(model, protocol, [row for row in rows if row.model == model and row.protocol == protocol])
    return "\n\n".join(parts) + "\n"


def _section(model: str, protocol: Protocol, rows: Sequence[Row]) -> Iterator[str]:
    table = Table.of(rows)
    yield f"## {model}" + ("" if protocol.calibration == CALIBRATION else f", {protocol.calibration} windows")
    yield (
        f"{protocol.calibration} windows of {protocol.length} tokens to calibrate, {protocol.held_out} to measure on; "
        f"text `{protocol.text}`, {_all('torch', rows)}, {_all('commit', rows)}."
    )
    dense = table.mean("dense", "dense")
    yield f"Dense: **{dense:.2f}**." if dense else "The dense model has not been measured yet."
    yield from _perplexities(table, "Sparse", _SPARSE, _POINTS)
    yield from _perplexities(table, "Smaller, in parameters of the whole model", tuple(SMALLER), tuple(SIZES))
    yield from _beside_sparsegpt(table)
    # With more windows only the best is measured: what nobody looked at there is no open question.
    found = [c for c in claims(table) if c.seeds or protocol.calibration == CALIBRATION]
    if found:
        yield "### What was claimed"
        yield grid(("claim", "", "as measured"), [(c.text, c.verdict, c.told) for c in found])


def _perplexities(table: Table, title: str, methods: Sequence[str], points: Sequence[str]) -> Iterator[str]:
    there = [m for m in methods if table.seconds(m)]  # rows of its own
    if there:
        yield f"### {title}"
        lines = [(m, *(_cell(table, m, p) for p in points), by_processor(table.seconds(m))) for m in there]
        yield grid(("method", *points, "seconds"), lines)


def _beside_sparsegpt(table: Table) -> Iterator[str]:
    ratios = {m: [table.ratio(m, "sparsegpt", p) for p in _POINTS] for m in _SPARSE if m != "sparsegpt" and table.seconds(m)}
    if any(any(found) for found in ratios.values()):
        yield "### Beside SparseGPT"
        yield "Perplexity over that of `sparsegpt` with the same seed, the mean over the seeds; below 1 is better."
        lines = [(m, *(told(ratio, ".3f") for ratio in found)) for m, found in ratios.items() if any(found)]
        yield grid(("method", *_POINTS), lines)


def _cell(table: Table, method: str, point: str) -> str:
    found = table.values(method, point)
    if not found:
        return ""
    half = (max(found) - min(found)) / 2
    count = "" if len(found) == 3 or method in ONE_SEED else f" ({len(found)})"
    return f"{_number(sum(found) / len(found))}{f' ± {_number(half)}' if len(found) > 1 else ''}{count}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _all(name: str, rows: Sequence[Row]) -> str:
    values = sorted({str(getattr(row, name)) for row in rows})
    return f"{name} {', '.join(values)}"

"""The page: tables made from rows, and what was claimed of them, held against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.language_models.claims import claims
from benchmarks.language_models.methods import AUTHORS, METHODS, PATTERNS, SIZES, SMALLER, SPARSITIES
from benchmarks.language_models.rows import Protocol, Row
from benchmarks.language_models.table import Table
from benchmarks.language_models.text import ONE_LINER

COMMAND = "python -m benchmarks.language_models --workers 2 --authors FOLDER"
ABOUT = f"""\
Made by `{COMMAND}` from the rows in `language_models/`, which it adds to and keeps. Perplexity on windows that are
the same for all rows; what calibrates is drawn anew by each seed from the other half of the text, at random places,
as SparseGPT and Wanda draw it. A cell is the mean over the seeds, ± half of the range between the lowest and the
highest; a number in brackets counts the seeds where there are not three, and where neither chance nor calibration has
a say, one stands for all. Only the linear layers of the blocks are pruned. `seconds` is the processor time of
pruning, calibration included, one thread.

The text is the Debian package `anarchism` (`{ONE_LINER}`): its paragraphs of at least 200 characters, in order, the
front half to calibrate, the back half to measure on. It is likely to be in what the models were trained on: compare a
row with the dense one, and take no number for a benchmark of the model. `--text` takes any other text.

`authors-wanda` and `authors-sparsegpt` are the authors' own code on the same model and windows, from clones that
anyone can make: `git clone https://github.com/locuslab/wanda FOLDER/wanda` and `git clone
https://github.com/IST-DASLab/sparsegpt FOLDER/sparsegpt`. What is put around it to run with transformers of today is
in `benchmarks/language_models/authors.py`; nothing of it is changed."""


def page(rows: Sequence[Row]) -> str:
    """The page in markdown, a section for every model and protocol."""
    parts = ["# Language models", ABOUT]
    for model, protocol in dict.fromkeys((row.model, row.protocol) for row in rows):
        parts += _section(model, protocol, [row for row in rows if row.model == model and row.protocol == protocol])
    return "\n\n".join(parts) + "\n"


def _section(model: str, protocol: Protocol, rows: Sequence[Row]) -> Iterable[str]:
    table = Table.of(rows)
    yield f"## {model}"
    yield (
        f"{protocol.calibration} windows of {protocol.length} tokens to calibrate, {protocol.held_out} to measure on; "
        f"text `{protocol.text}`, {_all('torch', rows)}, {_all('commit', rows)}."
    )
    dense = table.mean("dense", "dense")
    yield f"Dense: **{dense:.2f}**." if dense else "The dense model has not been measured yet."
    sparse = [m for m in METHODS if m not in ("dense", *SMALLER)]
    for title, methods, points in (("Sparse", sparse, [*SPARSITIES, *PATTERNS]), ("Smaller", list(SMALLER), list(SIZES))):
        there = [m for m in methods if any(table.there(m, p) for p in points)]
        if there:
            yield f"### {title}: perplexity"
            yield _grid(
                ("method", *points, "seconds"), ((m, *(_cell(table, m, p) for p in points), _time(table, m)) for m in there)
            )
    others = [
        m
        for m in sparse
        if m not in ("sparsegpt", *AUTHORS) and any(table.ratio(m, "sparsegpt", p) for p in SPARSITIES | PATTERNS)
    ]
    if others:
        yield "### Beside SparseGPT"
        yield "Perplexity over that of `sparsegpt` with the same seed, the mean over the seeds; below 1 is better."
        points = [*SPARSITIES, *PATTERNS]
        yield _grid(("method", *points), ((m, *(_times(table.ratio(m, "sparsegpt", p)) for p in points)) for m in others))
    yield "### What was claimed"
    yield _grid(("claim", "", "as measured"), ((c.text, c.verdict, c.told) for c in claims(table)))


def _cell(table: Table, method: str, point: str) -> str:
    found = table.values(method, point)
    if not found:
        return ""
    half = (max(found) - min(found)) / 2
    count = "" if len(found) == 3 or method in table.one_seed else f" ({len(found)})"
    return f"{_number(sum(found) / len(found))}{f' ± {_number(half)}' if len(found) > 1 else ''}{count}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value >= 1000 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}"


def _time(table: Table, method: str) -> str:
    return f"{table.seconds(method):.0f}"


def _all(name: str, rows: Sequence[Row]) -> str:
    values = sorted({str(getattr(row, name)) for row in rows})
    return f"{name} {', '.join(values)}"


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))

"""`pomona eval`: how good a model is on data."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching


def evaluate(
    model: options.Model,
    data: Annotated[str, typer.Option("--data", metavar="DATA", show_default=False, help="What to measure on.")],
    metric: options.Metric = None,
    input: options.Input = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Measure the quality of MODEL on DATA."""
    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        brought = words.open_data(data, opened, progress)
        found = pomona.evaluate(opened.model, brought.test, metric or brought.metric)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.items():
        if not isinstance(value, (list, dict)):
            table.add_row(str(name), f"{value:.4g}" if isinstance(value, float) else str(value))
    return Answer({"model": model, "data": data, **found}, table)

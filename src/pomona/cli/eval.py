"""`pomona eval`: how good a model is on data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching


def evaluate(
    model: options.Model,
    data: Annotated[str, typer.Option("--data", metavar="DATA", show_default=False, help="What to measure on.")],
    metric: options.Metric = None,
    dense: Annotated[
        str | None,
        typer.Option("--dense", metavar="MODEL", show_default=False, help="What agreement and kl compare with."),
    ] = None,
    input: options.Input = None,
    length: Annotated[int, typer.Option(min=2, metavar="TOKENS", help="Windows of text.")] = 128,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Measure the quality of MODEL on DATA."""
    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        brought = words.open_data(data, opened, progress, length=length)
        other = words.open_model(dense, input, progress).model if dense else None
        found = pomona.evaluate(
            opened.model, brought.test, metric or brought.metric, dense=other, names=brought.classes, progress=progress
        )
    lines = [f"{found.metric} {found.value:.4g} on {found.examples} examples"]
    lines += [f"  {part.label}  {part.value:.4g} on {part.support}" for part in found.per_class]
    return Answer({"model": model, "data": data, **asdict(found)}, Text("\n".join(lines)))

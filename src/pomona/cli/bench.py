"""`pomona bench`: the latency of two models, measured turn by turn in one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching


def bench(
    before: Annotated[str, typer.Argument(metavar="BEFORE", show_default=False, help="A model, as for `pomona prune`.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", show_default=False, help="The one to compare with it.")],
    input: options.Input = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time BEFORE and AFTER interleaved, on the same inputs: medians, their ratio and its spread."""
    progress = watching()
    with words.new(None):
        old, new = words.open_model(before, input, progress), words.open_model(after, input, progress)
        found = pomona.measure_latency(
            old.model, new.model, old.args, old.kwargs, progress=progress, **words.given(batch=batch, threads=threads)
        )
    low, high = found.spread
    how = f"over {found.pairs} pairs), batch {found.batch}, threads {found.threads}"
    said = (
        f"{before}  {found.before_ms:.3g} ms\n{after}  {found.after_ms:.3g} ms\n"
        f"ratio {found.ratio:.3g} ({low:.3g} to {high:.3g} {how}"
    )
    return Answer({"before": before, "after": after, **asdict(found)}, Text(said))

"""`pomona demo`: real models, real data, minutes, reports at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", show_default="out/demo, or the next free name", help="For models and reports."
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Prune a convolutional net, a pretrained picture classifier and a pretrained sentence encoder; ten minutes on two cores."""
    from pomona.face.demo import demo as run
    from pomona.report import renderable

    folder = out or words.free(Path("out/demo"))
    with words.new(folder):
        results = run(folder, seed=seed, progress=watching())
    body = [part for name, report in results.items() for part in (Text(), Text(name, "bold underline"), renderable(report))]
    paths = [Text(f"{report['out']}/report.html") for report in results.values()]
    return Answer({"out": str(folder), "results": results}, Group(*body, Text(), Text("Reports:", "bold"), *paths))

"""`pomona report`: the report of a folder that pomona wrote, shown again or made again."""

from __future__ import annotations

import json as standard
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from pomona.cli import options
from pomona.cli.answer import Answer
from pomona.cli.refusal import refused


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="A folder that `pomona prune -o` wrote.")],
    remake: Annotated[bool, typer.Option("--remake", help="Write report.html anew from report.json.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Show what a run cost and bought, and where its page lies."""
    from pomona.report import renderable, write

    twin = folder / "report.json"
    try:
        found = standard.loads(twin.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refused(f"There is no report at {twin}; name a folder that `pomona prune --out` wrote.") from None
    except (OSError, ValueError) as error:
        raise refused(f"{twin} cannot be read ({error}); it may be truncated.") from None
    if remake:
        write(found, folder)
    return Answer(found, Group(renderable(found), Text(), Text(str(folder / "report.html"))))

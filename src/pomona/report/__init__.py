"""The report that a person wants to look at: one HTML file, its JSON twin, and a table for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.report.page import html
from pomona.report.terminal import renderable, text
from pomona.report.twin import to_json
from pomona.vocabulary import write_atomically

__all__ = ["html", "renderable", "text", "to_json", "write"]


def write(report: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.json into `folder` (made if missing), each atomically; their paths in that order.

    Both are built before either is written, so a report that cannot be written leaves nothing behind.
    """
    made = {"report.html": html(report), "report.json": to_json(report)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        write_atomically(folder / name, content.encode())
    return folder / "report.html", folder / "report.json"

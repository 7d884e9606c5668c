"""What a command gives back, printed once at the end: one JSON object, or something for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console, RenderableType

WIDE = 160  # columns for files and pipes, where nobody wraps by eye


@dataclass(frozen=True, eq=False)
class Answer:
    """`document` is what `--json` prints, `body` what people read."""

    document: Mapping[str, Any]
    body: RenderableType

    def print(self, out: TextIO, json: bool) -> None:
        """Write one of the two to `out`, and nothing else."""
        if json:
            print_json(self.document, out)
        else:
            Console(file=out, width=None if out.isatty() else WIDE, highlight=False).print(self.body)


def print_json(document: Mapping[str, Any], out: TextIO) -> None:
    """One strict JSON object; infinities and not-a-number become null."""
    from pomona.report.twin import to_json  # here, because it loads torch, and `--help` must not wait for that

    out.write(to_json(document))
    out.flush()

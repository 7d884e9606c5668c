"""`pomona doctor`: what runs the sparse kernels here, and what is missing."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pomona.cli import options
from pomona.cli.answer import Answer


def doctor(json: options.Json = False, debug: options.Debug = False) -> Answer:
    """Say which native kernels are in use, on which machine, and which optional packages are there."""
    from pomona.face.condition import condition

    found = condition()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, told in found.lines():
        table.add_row(Text(name, "dim"), Text(told))
    return Answer(found.document(), table)

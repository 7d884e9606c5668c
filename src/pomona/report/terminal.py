"""The summary for the terminal: the verdict, a table of before and after, the reason and the advice, the caveats."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import TYPE_CHECKING, Any

from pomona.report import units
from pomona.report.cards import PRICES
from pomona.report.caveats import caveats
from pomona.report.twin import clean
from pomona.report.verdict import as_fraction, judge, last, reduction, speedup

if TYPE_CHECKING:
    from rich.console import RenderableType

SIGNS = {"good": ("✓", "green"), "bad": ("✕", "red"), "open": ("○", "dim")}


def renderable(report: Mapping[str, Any]) -> RenderableType:
    """What rich prints: plain, without markup in names, so that a layer called "[red]" stays one."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    report = clean(report)
    verdict = judge(report)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for row in rows(report):
        table.add_row(*[Text(cell) for cell in row])
    claims = Text("   ").join(Text(f"{SIGNS[claim.tone][0]} {claim.text}", SIGNS[claim.tone][1]) for claim in verdict.claims)
    why = [Text(text, "yellow") for text in (verdict.reason, verdict.advice) if text]
    known = [Text(text, "dim") for text in caveats(report)]
    return Group(Text(verdict.sentence, "bold"), *why, Text(), table, Text(), claims, *known)


def text(report: Mapping[str, Any], width: int = 100) -> str:
    """The same without colours, for logs and pipes."""
    from rich.console import Console

    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False).print(renderable(report))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, before, after, change: one row for everything that was measured."""
    found = [
        (label, write(pair.get("before")), write(pair.get("after")), units.times(reduction(pair)))
        for key, label, write in PRICES
        if (pair := report.get(key))
    ]
    latency, quality = report.get("latency") or {}, report.get("quality") or {}
    if speedup(latency) is not None:
        found.append(
            (
                "Latency",
                units.duration(latency.get("before_ms")),
                units.duration(latency.get("after_ms")),
                units.times(speedup(latency)),
            )
        )
    before, after = quality.get("before"), last(quality)
    if before is not None and after is not None:
        fraction = as_fraction(quality)
        name = str(quality.get("metric") or "quality")
        found.append(
            (
                name[:1].upper() + name[1:],
                units.quality(before, fraction),
                units.quality(after, fraction),
                units.change(after - before, fraction),
            )
        )
    return found

"""What the cut cost layer by layer, before anything could make up for it: blocks from top to bottom, their layers beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.bars import breakable
from pomona.report.markup import Markup, el, join

COLUMNS = 10  # layers of one block that still fit beside each other
ROWS = 64

LAYERS = "Of a layer: the share of the energy of its outputs that is lost, on the data that it was solved on."
BLOCKS = "Of a block: by how much its outputs moved, relative to what they were, on what the blocks before it gave for one batch."


def errors(report: Mapping[str, Any]) -> Markup | None:
    """A table of blocks and the layers in them, else a list of layers, the worst first; None where nothing is known."""
    blocks = {str(row.get("name") or "unnamed"): row.get("error") for row in report.get("blocks") or ()}
    known = [row for row in report.get("sites") or () if row.get("error") is not None]
    layers = {str(row.get("name") or "unnamed"): row["error"] for row in known}
    inside = {name: {_own(site, name): error for site, error in layers.items() if site.startswith(f"{name}.")} for name in blocks}
    columns = list(dict.fromkeys(column for found in inside.values() for column in found))
    others = {site: error for site, error in layers.items() if not any(site.startswith(f"{name}.") for name in blocks)}
    if len(columns) > COLUMNS:
        columns, others = [], layers
    if not blocks and not layers:
        return None
    told = [text for text, there in ((LAYERS, layers), (BLOCKS, blocks)) if there]
    return join(
        *[el("p", {"class": "fine"}, text) for text in told],
        _table(["Block", "Whole", *columns], [[n, e, *[inside[n].get(c) for c in columns]] for n, e in blocks.items()]),
        _table(["Layer", "Lost"], sorted(([n, e] for n, e in others.items()), key=lambda row: -float(row[1]))),
    )


def _own(site: str, block: str) -> str:
    return site.removeprefix(f"{block}.").removesuffix(".weight")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup | None:
    if not rows:
        return None
    top = el("tr", None, *[el("th", {"class": "number"} if at else None, breakable(word)) for at, word in enumerate(head)])
    made = [
        el(
            "tr",
            None,
            el("td", None, el("code", None, breakable(str(name)))),
            *[el("td", {"class": "number"}, units.share(value)) for value in values],
        )
        for name, *values in rows
    ]
    table = el("div", {"class": "scroll"}, el("table", None, el("thead", None, top), el("tbody", None, *made)))
    return el("details", None, el("summary", None, f"All {len(rows)}"), table) if len(rows) > ROWS else table

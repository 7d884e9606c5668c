"""Tasks as a table: the dense model, the final one, and by how much they differ for the spread of the measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.report import units
from pomona.report.markup import Markup, el, join


def tasks(report: Mapping[str, Any]) -> Markup | None:
    """One row a metric; None where no task was asked."""
    asked = report.get("tasks") or ()
    if not asked:
        return None
    names, numbers = ("Task", "Metric"), ("Dense", "Pruned", "Standard error", "Examples")
    head = el("tr", None, *[el("th", None, w) for w in names], *[el("th", {"class": "number"}, w) for w in numbers])
    rows = [el("tr", None, *_cells(row)) for row in asked]
    table = el("div", {"class": "scroll"}, el("table", None, el("thead", None, head), el("tbody", None, *rows)))
    if all(row.get("after") is not None for row in asked):
        return table
    return join(table, el("p", {"class": "fine"}, "The pruned model is a rewritten program, which the harness cannot ask."))


def _cells(row: Mapping[str, Any]) -> list[Markup]:
    name, metric, filtered = (str(row.get(key) or "") for key in ("task", "metric", "filter"))
    fraction = units.is_fraction(metric, [row.get("before"), row.get("after")])
    shots = row.get("shots")
    named = el("td", None, name if not shots else f"{name}, {shots} shot{'s' * (shots != 1)}")
    how = el("td", None, metric if filtered in ("", "none") else f"{metric} ({filtered})")
    values = [units.quality(row.get(key), fraction) for key in ("before", "after", "stderr")]
    return [named, how, *[el("td", {"class": "number"}, text) for text in (*values, units.whole(row.get("examples")))]]

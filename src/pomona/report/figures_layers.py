"""What was removed where: a bar a layer; for deep networks a skyline in order and sums over layers that play the same part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import bars
from pomona.report.bars import Bar
from pomona.report.markup import Markup, el, join

ROWS = 32  # more layers than this and a reader wants the overview first
TOP = 14

Row = Mapping[str, Any]


def layers(report: Mapping[str, Any]) -> Markup | None:
    """The picture, by MACs and by weights (two views, switched without scripts); None without layers."""
    rows: Sequence[Row] = report.get("layers") or []
    views = {"MACs": [_macs(row) for row in rows], "weights": [_weights(row) for row in rows]}
    views = {measure: drawn for measure, drawn in views.items() if any(bar.before for bar in drawn)}
    if not views:
        return None
    # The measure that the cut moved comes first: for zeros in place that is the weights.
    order = sorted(views, key=lambda measure: all(bar.kept == bar.before for bar in views[measure]))
    switches = [part for index, measure in enumerate(order) for part in _switch(measure, index)] if len(order) > 1 else []
    drawn = [el("div", {"class": f"view view-{index}"}, _view(measure, views[measure])) for index, measure in enumerate(order)]
    return el("div", {"class": "views"}, *switches, *drawn)


def _weights(row: Row) -> Bar:
    stored = _number(row, "params_after")
    living = min(stored, _number(row, "nonzeros_after", stored))
    return Bar(str(row.get("name") or "unnamed"), _shapes(row), _number(row, "params_before"), living, stored - living)


def _macs(row: Row) -> Bar:
    return Bar(str(row.get("name") or "unnamed"), _shapes(row), _number(row, "macs_before"), _number(row, "macs_after"))


def _number(row: Row, key: str, default: float = 0.0) -> float:
    value = row.get(key)
    return default if value is None else float(value)


def _shapes(row: Row) -> str:
    before, after = (" × ".join(str(n) for n in row.get(key) or ()) for key in ("shape_before", "shape_after"))
    shapes = before if before == after or not after else f"{before} → {after}"
    return f"{row.get('kind') or ''} {shapes}".strip()


def _view(measure: str, drawn: Sequence[Bar]) -> Markup:
    key = _legend(drawn)
    if len(drawn) <= ROWS:
        return join(key, bars.rows(measure, drawn))
    alike = _alike(drawn)
    several = len(alike) > ROWS
    shown = sorted(alike, key=lambda bar: bar.kept - bar.before)[:TOP] if several else alike
    title = "The layers that lost most" if several else "Layers that play the same part, together"
    every = el("details", None, el("summary", None, f"All {len(drawn)} layers"), bars.rows(measure, drawn))
    told = "Every layer from input to output: as wide as its share of the whole, filled as high as it was kept."
    overview = join(el("p", {"class": "fine"}, told), bars.skyline(measure, drawn))
    return join(key, overview, el("h3", None, title), bars.rows(measure, shown), every)


def _alike(drawn: Sequence[Bar]) -> list[Bar]:
    """Layers whose names differ in numbers only, summed."""
    groups: dict[str, list[Bar]] = {}
    for bar in drawn:
        groups.setdefault(re.sub(r"\d+", "*", bar.name), []).append(bar)
    return [_sum(name, group) if len(group) > 1 else group[0] for name, group in groups.items()]


def _sum(name: str, group: Sequence[Bar]) -> Bar:
    notes = {bar.note for bar in group}
    note = f"{len(group)} layers, each {notes.pop()}" if len(notes) == 1 else f"{len(group)} layers"
    return Bar(name, note, sum(bar.before for bar in group), sum(bar.kept for bar in group), sum(bar.idle for bar in group))


def _switch(measure: str, index: int) -> tuple[Markup, Markup]:
    name = f"by-{index}"
    checked = "checked" if index == 0 else None
    radio = el("input", {"type": "radio", "name": "measure", "id": name, "class": name, "checked": checked})
    return radio, el("label", {"for": name}, f"by {measure}")


def _legend(drawn: Sequence[Bar]) -> Markup:
    idle, gone = any(bar.idle for bar in drawn), any(bar.gone for bar in drawn)
    words = (("kept", "kept", True), ("idle", "stored as zero", idle), ("gone", "removed", gone or not idle))
    return bars.legend(*[(bars.swatch(kind), word) for kind, word, present in words if present])

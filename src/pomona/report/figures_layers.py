"""What was removed where: a bar a layer, and for deep networks a skyline in order and a sum over layers that play the same part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.report import units
from pomona.report.markup import Markup, el, join, percent

ROWS = 32                                              # more layers than this and a reader wants the overview first
TOP = 14


@dataclass(frozen=True)
class Bar:
    """One layer, or several alike, under one measure: `kept + idle <= before`; idle weights are stored but zero."""

    name: str
    note: str
    before: float
    kept: float
    idle: float


def layers(report: Mapping[str, Any]) -> Markup | None:
    """The picture, by MACs and by weights (two views, switched without scripts); None without layers."""
    rows: Sequence[Mapping[str, Any]] = report.get("layers") or []
    if not rows:
        return None
    views = {"weights": [_weights(row) for row in rows], "MACs": [_macs(row) for row in rows]}
    views = {name: bars for name, bars in views.items() if any(bar.before for bar in bars)}
    first = "MACs" if any(bar.kept < bar.before for bar in views.get("MACs", ())) else "weights"
    order = sorted(views, key=lambda name: name != first)
    switches = [_switch(name, index) for index, name in enumerate(order)] if len(order) > 1 else []
    drawn = [el("div", {"class": f"view view-{index}"}, _view(name, views[name])) for index, name in enumerate(order)]
    return el("div", {"class": "views"}, *[part for switch in switches for part in switch], _legend(rows), *drawn)


def _weights(row: Mapping[str, Any]) -> Bar:
    stored = _number(row, "params_after")
    living = min(stored, _number(row, "nonzeros_after", stored))
    return Bar(str(row.get("name")), _shapes(row), _number(row, "params_before"), living, stored - living)


def _macs(row: Mapping[str, Any]) -> Bar:
    return Bar(str(row.get("name")), _shapes(row), _number(row, "macs_before"), _number(row, "macs_after"), 0.0)


def _number(row: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    value = row.get(key)
    return default if value is None else float(value)


def _shapes(row: Mapping[str, Any]) -> str:
    before, after = (" × ".join(str(n) for n in row.get(key) or ()) for key in ("shape_before", "shape_after"))
    kind = str(row.get("kind") or "")
    return f"{kind}  {before}" if before == after or not after else f"{kind}  {before} → {after}"


def _view(measure: str, bars: Sequence[Bar]) -> Markup:
    if len(bars) <= ROWS:
        return _rows(measure, bars)
    alike = _alike(bars)
    shown = sorted(alike, key=lambda bar: bar.kept + bar.idle - bar.before)[:TOP] if len(alike) > ROWS else alike
    title = "The layers that lost most" if len(alike) > ROWS else "Layers that play the same part, together"
    every = el("details", None, el("summary", None, f"All {len(bars)} layers"), _rows(measure, bars))
    return join(_skyline(measure, bars), el("h3", None, title), _rows(measure, shown), every)


def _alike(bars: Sequence[Bar]) -> list[Bar]:
    """Layers whose names differ in numbers only, summed."""
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(re.sub(r"\d+", "*", bar.name), []).append(bar)
    return [_sum(name, group) if len(group) > 1 else group[0] for name, group in groups.items()]


def _sum(name: str, group: Sequence[Bar]) -> Bar:
    total = [sum(values) for values in zip(*((bar.before, bar.kept, bar.idle) for bar in group), strict=True)]
    notes = {bar.note for bar in group}
    note = f"{len(group)} layers" + (f", each {notes.pop()}" if len(notes) == 1 else "")
    return Bar(name, note, *total)


def _rows(measure: str, bars: Sequence[Bar]) -> Markup:
    longest = max((bar.before for bar in bars), default=0.0) or 1.0
    return el("ol", {"class": "rows"}, *[_row(measure, bar, longest) for bar in bars])


def _row(measure: str, bar: Bar, longest: float) -> Markup:
    drawing = el("svg", {"height": 14, "role": "img", "aria-label": _tip(measure, bar)}, *_parts(bar, longest), el("title", None, _tip(measure, bar)))
    left = bar.kept / bar.before if bar.before else 1.0
    name = el("span", {"class": "name"}, join(el("code", None, breakable(bar.name)), el("small", None, bar.note)))
    return el("li", None, name, drawing, el("span", {"class": "figure"}, units.share(left)))


def breakable(name: str) -> Markup:
    """A dotted name that may break after its dots and underscores on a narrow screen."""
    return join(*[join(part, Markup("<wbr>")) for part in re.findall(r"[^._/]*[._/]?", name) if part])


def _parts(bar: Bar, longest: float) -> list[Markup]:
    widths = [100 * value / longest for value in (bar.kept, bar.idle, max(0.0, bar.before - bar.kept - bar.idle))]
    starts = [0.0, widths[0], widths[0] + widths[1]]
    return [
        el("rect", {"x": percent(start), "width": percent(width), "height": 14, "class": kind, "fill": "url(#hatch)" if kind == "idle" else None})
        for start, width, kind in zip(starts, widths, ("kept", "idle", "gone"), strict=True) if width > 0
    ]


def _skyline(measure: str, bars: Sequence[Bar]) -> Markup:
    height, tallest, step = 150, max(bar.before for bar in bars) or 1.0, 100 / len(bars)
    columns = [_column(measure, bar, index * step, 0.86 * step, height / tallest, height) for index, bar in enumerate(bars)]
    label = f"{measure} of {len(bars)} layers from input to output, kept and removed"
    caption = el("p", {"class": "ends"}, join(el("span", None, "← input"), el("span", None, f"{len(bars)} layers, {measure}"), el("span", None, "output →")))
    return el("div", {"class": "skyline"}, el("svg", {"height": height, "role": "img", "aria-label": label}, *columns), caption)


def _column(measure: str, bar: Bar, x: float, width: float, unit: float, height: int) -> Markup:
    tops = (height - bar.before * unit, height - (bar.kept + bar.idle) * unit, height - bar.kept * unit)
    spans = zip(tops, (bar.before - bar.kept - bar.idle, bar.idle, bar.kept), ("gone", "idle", "kept"), strict=True)
    parts = [
        el("rect", {"x": percent(x), "width": percent(width), "y": top, "height": amount * unit, "class": kind, "fill": "url(#hatch)" if kind == "idle" else None})
        for top, amount, kind in spans if amount > 0
    ]
    return el("g", None, *parts, el("title", None, _tip(measure, bar)))


def _tip(measure: str, bar: Bar) -> str:
    word = "MACs" if measure == "MACs" else "weights"
    zeros = f", {units.count(bar.idle)} stored zeros" if bar.idle else ""
    return f"{bar.name}: {units.count(bar.kept)} of {units.count(bar.before)} {word} kept{zeros}. {bar.note}"


def _switch(name: str, index: int) -> tuple[Markup, Markup]:
    marked = {"checked": "checked"} if index == 0 else {}
    radio = el("input", {"type": "radio", "name": "measure", "id": f"by-{index}", "class": f"by-{index}", **marked})
    return radio, el("label", {"for": f"by-{index}"}, f"by {name}")


def _legend(rows: Sequence[Mapping[str, Any]]) -> Markup:
    idle = any(_weights(row).idle for row in rows)
    gone = any(_number(row, "params_after") < _number(row, "params_before") for row in rows)
    words = [("kept", "kept")] + ([("idle", "stored as zero")] if idle else []) + ([("gone", "removed")] if gone or not idle else [])
    return el("p", {"class": "legend"}, *[el("span", None, join(swatch(kind), word)) for kind, word in words])


def swatch(kind: str) -> Markup:
    """A small square in the colour of the thing named beside it."""
    return el("svg", {"width": 12, "height": 12, "class": "swatch", "aria-hidden": "true"},
              el("rect", {"width": 12, "height": 12, "class": kind, "fill": "url(#hatch)" if kind == "idle" else None}))

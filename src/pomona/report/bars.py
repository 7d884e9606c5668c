"""Bars of what is kept, stored as zero, and removed: one row each, or side by side with widths that add up to the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pomona.report import units
from pomona.report.markup import Markup, el, join, percent

THICK = 14  # pixels of a bar in a row
HIGH = 150  # pixels of the skyline
SEAM = 0.05  # per cent of the width: columns overlap by a hair, or rounding leaves gaps between them


@dataclass(frozen=True)
class Bar:
    """One layer, or several alike, under one measure: `kept + idle <= before`; idle weights are stored but zero."""

    name: str
    note: str
    before: float
    kept: float
    idle: float = 0.0

    @property
    def gone(self) -> float:
        """What is no longer there at all."""
        return max(0.0, self.before - self.kept - self.idle)

    @property
    def left(self) -> float:
        """The share that still works, in [0, 1]."""
        return self.kept / self.before if self.before else 1.0


def rows(measure: str, bars: Sequence[Bar]) -> Markup:
    """A row a bar, all on the scale of the longest: name, picture, share left."""
    longest = max((bar.before for bar in bars), default=0.0) or 1.0
    return el("ol", {"class": "rows"}, *[_row(measure, bar, longest) for bar in bars])


def skyline(measure: str, bars: Sequence[Bar]) -> Markup:
    """All bars side by side in order: as wide as they cost, filled as high as they were kept, so areas are true."""
    total = sum(bar.before for bar in bars) or 1.0
    starts = [0.0]
    for bar in bars:
        starts.append(starts[-1] + 100 * bar.before / total)
    columns = [_column(measure, bar, x, end - x) for bar, x, end in zip(bars, starts, starts[1:], strict=False) if bar.before]
    back = el("rect", {"width": "100%", "height": HIGH, "class": "gone"})
    label = f"{measure} of {len(bars)} layers from input to output, kept and removed"
    ends = [el("span", None, text) for text in ("← input", f"{len(bars)} layers", "output →")]
    drawing = el("svg", {"height": HIGH, "role": "img", "aria-label": label}, back, *columns)
    return el("div", {"class": "skyline"}, drawing, el("p", {"class": "ends"}, *ends))


def breakable(name: str) -> Markup:
    """A dotted name that may break after its dots and underscores on a narrow screen."""
    return join(*[join(part, Markup("<wbr>")) for part in re.findall(r"[^._/]+[._/]*|[._/]+", name)])


def swatch(kind: str) -> Markup:
    """A small square in the colour of the thing named beside it."""
    square = el("rect", {"width": 12, "height": 12, "class": kind, "fill": _fill(kind)})
    return el("svg", {"width": 12, "height": 12, "class": "swatch", "aria-hidden": "true"}, square)


def legend(*entries: tuple[Markup, str]) -> Markup:
    """Marks with their meaning, in a row."""
    return el("p", {"class": "legend"}, *[el("span", None, mark, word) for mark, word in entries])


def _row(measure: str, bar: Bar, longest: float) -> Markup:
    tip = _tip(measure, bar)
    parts, x = [el("line", {"x1": 0, "x2": 0, "y1": -3, "y2": THICK + 3, "class": "zero"})], 0.0
    for kind, amount in (("kept", bar.kept), ("idle", bar.idle), ("gone", bar.gone)):
        width = 100 * amount / longest
        if amount > 0:
            place = {"x": percent(x), "width": percent(width), "height": THICK}
            parts.append(el("rect", {**place, "class": kind, "fill": _fill(kind)}))
        x += width
    drawing = el("svg", {"height": THICK, "role": "img", "aria-label": tip}, *parts, el("title", None, tip))
    name = el("span", {"class": "name"}, el("code", None, breakable(bar.name)), el("small", None, bar.note))
    return el("li", None, name, drawing, el("span", {"class": "figure"}, units.share(bar.left)))


def _column(measure: str, bar: Bar, x: float, width: float) -> Markup:
    kept, idle = HIGH * bar.left, HIGH * bar.idle / bar.before
    spans = (("touch", 0.0, float(HIGH)), ("idle", HIGH - kept - idle, idle), ("kept", HIGH - kept, kept))
    parts = [
        el("rect", {"x": percent(x), "width": percent(width + SEAM), "y": y, "height": high, "class": kind, "fill": _fill(kind)})
        for kind, y, high in spans
        if high > 0
    ]
    return el("g", None, *parts, el("title", None, _tip(measure, bar)))


def _fill(kind: str) -> str | None:
    return "url(#hatch)" if kind == "idle" else None


def _tip(measure: str, bar: Bar) -> str:
    zeros = f", {units.count(bar.idle)} stored zeros" if bar.idle else ""
    return f"{bar.name}: {units.count(bar.kept)} of {units.count(bar.before)} {measure} kept{zeros}. {bar.note}"

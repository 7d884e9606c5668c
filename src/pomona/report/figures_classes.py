"""Class by class: who pays for the saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import bars, units
from pomona.report.markup import Markup, el, join, percent
from pomona.report.verdict import last

WORST, BEST, FEW = 8, 4, 16

Row = Mapping[str, Any]


def classes(report: Mapping[str, Any]) -> Markup | None:
    """Change of every class, the worst first; None without classes. Of many, the worst and the best, the rest folded."""
    quality: Mapping[str, Any] = report.get("quality") or {}
    known = [row for row in quality.get("per_class") or () if row.get("before") is not None and last(row) is not None]
    if not known:
        return None
    better = 1 if quality.get("higher_is_better", True) else -1
    rows = sorted(known, key=lambda row: better * moved(row))
    fraction = units.is_fraction(
        str(quality.get("metric") or ""), [value for row in rows for value in (row["before"], last(row))]
    )
    reach = max(abs(moved(row)) for row in rows) or 1.0
    drawn = [_row(row, reach, better, fraction) for row in rows]
    key = bars.legend((bars.swatch("loss"), "worse"), (bars.swatch("gain"), "better"))
    return join(el("p", None, _summary(rows, better, fraction)), key, *_folded(drawn))


def moved(row: Row) -> float:
    """Quality now less quality before, in the metric's unit."""
    after = last(row)
    return 0.0 if after is None else float(after) - float(row["before"])


def _row(row: Row, reach: float, better: int, fraction: bool) -> Markup:
    difference = moved(row)
    width = 50 * abs(difference) / reach
    said = f"{units.quality(row['before'], fraction)} → {units.quality(last(row), fraction)}"
    place = {"x": percent(50.0 if difference > 0 else 50 - width), "width": percent(width), "height": bars.THICK}
    bar = el("rect", {**place, "class": "gain" if better * difference > 0 else "loss"})
    axis = el("line", {"x1": "50%", "x2": "50%", "y1": -4, "y2": bars.THICK + 4, "class": "zero"})
    tip = f"{row.get('label') or 'unnamed'}: {said}"
    drawing = el("svg", {"height": bars.THICK, "role": "img", "aria-label": tip}, bar, axis, el("title", None, tip))
    support = row.get("support")
    note = said if support is None else f"{said}, {units.whole(support)} {'example' if support == 1 else 'examples'}"
    name = el(
        "span", {"class": "name"}, el("span", None, bars.breakable(str(row.get("label") or "unnamed"))), el("small", None, note)
    )
    return el("li", None, name, drawing, el("span", {"class": "figure"}, units.change(difference, fraction)))


def _summary(rows: Sequence[Row], better: int, fraction: bool) -> str:
    fell, rose = (sum(sign * better * moved(row) > 0 for row in rows) for sign in (-1, 1))
    noun = "class" if len(rows) == 1 else "classes"
    parts = [f"{fell} of {len(rows)} {noun} got worse, {rose} better, {len(rows) - fell - rose} unchanged."]
    fewest = min((row["support"] for row in rows if row.get("support")), default=None)
    if fewest and fraction:
        grain = units.change(1 / fewest, True).lstrip("+")
        parts.append(f"In the class with the fewest examples ({units.whole(fewest)}) one example is worth {grain}.")
    return " ".join(parts)


def _folded(drawn: Sequence[Markup]) -> list[Markup]:
    if len(drawn) <= FEW:
        return [_list(drawn)]
    between = drawn[WORST:-BEST]
    folded = el("details", None, el("summary", None, f"The {len(between)} classes between"), _list(between))
    return [el("h3", None, "The worst"), _list(drawn[:WORST]), el("h3", None, "The best"), _list(drawn[-BEST:]), folded]


def _list(drawn: Sequence[Markup]) -> Markup:
    return el("ol", {"class": "rows classes"}, *drawn)

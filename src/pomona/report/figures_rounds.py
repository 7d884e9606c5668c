"""Quality against size over the rounds: the dense model, every cut, and what training won back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import bars, units
from pomona.report.axes import Point, Scale, around, dot, frame, line
from pomona.report.markup import Markup, el, join, percent
from pomona.report.verdict import as_fraction

HEIGHT = 240
NAMES = {"macs": "MACs left", "nonzeros": "non-zero weights left", "params": "parameters left"}

Step = Mapping[str, Any]


def rounds(report: Mapping[str, Any]) -> Markup | None:
    """The plot and, for several rounds, a folded table; None where quality was not measured."""
    quality: Mapping[str, Any] = report.get("quality") or {}
    size = _size(report)
    if size is None or quality.get("before") is None:
        return None
    full, steps = float(report[size]["before"]), _steps(report)
    pruned, recovered = (_points(steps, size, full, key) for key in ("quality", "recovered"))
    if not pruned and not recovered:
        return None
    table = _table(steps, size, full, as_fraction(quality)) if len(steps) > 1 else None
    return join(_plot(float(quality["before"]), pruned, recovered, size, quality), table)


def _size(report: Mapping[str, Any]) -> str | None:
    """The measure of size that fell most: that is what the method spends."""
    pairs = {key: report.get(key) or {} for key in NAMES}
    left = {
        key: pair["after"] / pair["before"] for key, pair in pairs.items() if pair.get("before") and pair.get("after") is not None
    }
    return min(left, key=lambda key: left[key]) if left else None


def _steps(report: Mapping[str, Any]) -> list[Step]:
    """The rounds; where none was judged on its own, the whole run counts as one."""
    listed: list[Step] = list(report.get("rounds") or ())
    if any(step.get("quality") is not None or step.get("recovered") is not None for step in listed):
        return listed
    quality = report.get("quality") or {}
    sizes = {key: (report.get(key) or {}).get("after") for key in NAMES}
    return [{"round": 1, **sizes, "quality": quality.get("after"), "recovered": quality.get("recovered")}]


def _points(steps: Sequence[Step], size: str, full: float, key: str) -> list[Point]:
    return [(step[size] / full, float(step[key])) for step in steps if step.get(key) is not None and step.get(size)]


def _plot(dense: float, pruned: list[Point], recovered: list[Point], size: str, quality: Mapping[str, Any]) -> Markup:
    fraction, metric, start = as_fraction(quality), str(quality.get("metric") or "quality"), [(1.0, dense)]
    x, y = _across([*pruned, *recovered]), _upwards([dense, *(value for _, value in pruned + recovered)], fraction)

    def at(point: Point) -> Point:
        return x(point[0]), y(point[1])

    def dots(points: Sequence[Point], kind: str, which: str) -> list[Markup]:
        said = [
            f"{which}: {metric} {units.quality(value, fraction)} at {units.share(left)} {NAMES[size]}" for left, value in points
        ]
        return [dot(at(point), HEIGHT, kind, tip) for point, tip in zip(points, said, strict=True)]

    won = dict(recovered)
    stems = [line([at((left, value)), at((left, won[left]))], HEIGHT, "stem") for left, value in pruned if left in won]
    curve = line([at(point) for point in start + (recovered or pruned)], HEIGHT, "kept")
    marks = [
        *stems,
        curve,
        *dots(pruned, "hollow", "pruned"),
        *dots(recovered, "kept", "recovered"),
        *dots(start, "dense", "dense"),
        *[_label(at(point), units.quality(point[1], fraction)) for point in (start[0], (recovered or pruned)[-1])],
    ]
    shown = [("dense", "dense", start), ("hollow", "after pruning", pruned), ("kept", "after recovery", recovered)]
    key = bars.legend(*[(_disc(kind), word) for kind, word, points in shown if points])
    write = (units.share, units.share if fraction else units.significant)
    return join(key, frame(x, y, marks, HEIGHT, (f"{NAMES[size]}, share of the dense model", metric), write))


def _label(at: Point, text: str) -> Markup:
    """The figure left of its dot, where no curve runs; above it at the two edges of the plot."""
    place = {"x": percent(100 * at[0]), "y": HEIGHT * (1 - at[1])}
    if 0.15 < at[0] < 0.9:
        return el("text", {**place, "dx": -11, "dy": 4, "class": "tick strong end"}, text)
    return el("text", {**place, "dy": -12, "class": f"tick strong {'end' if at[0] > 0.5 else 'middle'}"}, text)


def _across(points: Sequence[Point]) -> Scale:
    """From nothing to the dense model; logarithmic where so little is left that the end would be a smudge."""
    smallest = min(left for left, _ in points)
    return Scale(0.0, 1.0) if smallest > 0.12 else Scale(smallest / 1.3, 1.0, log=True)


def _upwards(values: Sequence[float], fraction: bool) -> Scale:
    """Around the values; logarithmic where a perplexity exploded and would flatten all the rest."""
    if not fraction and min(values) > 0 and max(values) > 8 * min(values):
        return Scale(min(values) / 1.3, max(values) * 1.3, log=True)
    scale = around(values)
    return Scale(max(0.0, scale.lo), min(1.0, scale.hi)) if fraction else scale


def _disc(kind: str) -> Markup:
    mark = el("circle", {"cx": 6, "cy": 6, "r": 4.5, "class": f"dot {kind}"})
    return el("svg", {"width": 12, "height": 12, "class": "swatch", "aria-hidden": "true"}, mark)


def _table(steps: Sequence[Step], size: str, full: float, fraction: bool) -> Markup:
    heads = ("Round", NAMES[size][:1].upper() + NAMES[size][1:], "Share", "Pruned", "Recovered")
    cells = [
        (
            units.whole(step.get("round")),
            units.count(step.get(size)),
            units.share(step[size] / full if step.get(size) is not None else None),
            units.quality(step.get("quality"), fraction),
            units.quality(step.get("recovered"), fraction),
        )
        for step in steps
    ]
    head = el("thead", None, el("tr", None, *[el("th", None, word) for word in heads]))
    body = el("tbody", None, *[el("tr", None, *[el("td", None, text) for text in row]) for row in cells])
    table = el("div", {"class": "scroll"}, el("table", None, head, body))
    return el("details", None, el("summary", None, f"The {len(steps)} rounds in figures"), table)

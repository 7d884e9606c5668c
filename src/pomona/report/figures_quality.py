"""Quality: against size over the rounds, through the epochs of the recovery, and class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.axes import Scale, around, dot, frame, line
from pomona.report.figures_layers import breakable, swatch
from pomona.report.markup import Markup, el, join, percent
from pomona.report.verdict import as_fraction, last

HEIGHT = 240
WORST, BEST = 8, 4
NAMES = {"macs": "MACs left", "nonzeros": "non-zero weights left", "params": "parameters left"}


def rounds(report: Mapping[str, Any]) -> Markup | None:
    """Quality against what is left of the model: the dense point, every round pruned and recovered. None without quality."""
    quality: Mapping[str, Any] = report.get("quality") or {}
    steps, size = _steps(report), _size(report)
    full = (report.get(size) or {}).get("before") if size else None
    if quality.get("before") is None or not full or size is None:
        return None
    pruned = [(step[size] / full, step["quality"]) for step in steps if step.get("quality") is not None and step.get(size)]
    recovered = [(step[size] / full, step["recovered"]) for step in steps if step.get("recovered") is not None and step.get(size)]
    if not pruned and not recovered:
        return None
    plot = _tradeoff([(1.0, float(quality["before"]))], pruned, recovered, size, quality)
    return join(plot, _table(steps, size, full, as_fraction(quality)) if len(steps) > 1 else None)


def recovery(report: Mapping[str, Any]) -> Markup | None:
    """Loss, and quality where it was followed, by epoch; None where nothing was recovered."""
    run: Mapping[str, Any] = report.get("recovery") or {}
    epochs = [epoch for epoch in run.get("epochs") or () if epoch.get("epoch") is not None]
    quality: Mapping[str, Any] = report.get("quality") or {}
    losses = [(float(epoch["epoch"]), float(epoch["loss"])) for epoch in epochs if epoch.get("loss") is not None]
    values = [(float(epoch["epoch"]), float(epoch["quality"])) for epoch in epochs if epoch.get("quality") is not None]
    curves = [_curve(losses, "loss", units.significant)] if losses else []
    if values:
        fraction = units.is_fraction(str(quality.get("metric") or "accuracy"), [value for _, value in values])
        curves += [_curve(values, str(quality.get("metric") or "quality"), lambda value: units.quality(value, fraction))]
    if not run:
        return None
    seconds = run.get("seconds")
    took = f" in {units.duration(1000 * seconds)}" if seconds is not None else ""
    sentence = f"{run.get('name') or 'Recovery'}: {len(epochs)} {'epoch' if len(epochs) == 1 else 'epochs'}{took}."
    return join(el("p", None, sentence), el("div", {"class": "pair"}, *curves) if curves else None)


def classes(report: Mapping[str, Any]) -> Markup | None:
    """Change a class, the worst first; None without classes. Many classes: the worst and the best, the rest folded."""
    quality: Mapping[str, Any] = report.get("quality") or {}
    known = [row for row in quality.get("per_class") or () if row.get("before") is not None and last(row) is not None]
    if not known:
        return None
    better = 1 if quality.get("higher_is_better", True) else -1
    rows = sorted(known, key=lambda row: better * _moved(row))
    fraction = units.is_fraction(str(quality.get("metric") or ""), [value for row in rows for value in (row["before"], last(row))])
    reach = max(abs(_moved(row)) for row in rows) or 1.0
    drawn = [_class(row, reach, better, fraction) for row in rows]
    return join(el("p", None, _summary(rows, better, fraction)), _legend(), *_folded(drawn))


def _steps(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rounds; a run without rounds counts as one."""
    listed = list(report.get("rounds") or ())
    if any(step.get("quality") is not None or step.get("recovered") is not None for step in listed):
        return listed
    quality = report.get("quality") or {}
    sizes = {key: (report.get(key) or {}).get("after") for key in NAMES}
    return [{"round": 1, **sizes, "quality": quality.get("after"), "recovered": quality.get("recovered")}]


def _size(report: Mapping[str, Any]) -> str | None:
    """The measure of size that fell most: that is what the method spends."""
    left = {key: pair["after"] / pair["before"] for key in NAMES if (pair := report.get(key) or {}).get("before") and pair.get("after") is not None}
    return min(left, key=lambda key: left[key]) if left else None


Points = Sequence[tuple[float, float]]


def _tradeoff(dense: Points, pruned: Points, recovered: Points, size: str, quality: Mapping[str, Any]) -> Markup:
    fraction, metric = as_fraction(quality), str(quality.get("metric") or "quality")
    everything = [*dense, *pruned, *recovered]
    smallest = max(1e-6, min(place for place, _ in everything))
    x = Scale(0.0, 1.0) if smallest > 0.15 else Scale(smallest / 1.3, 1.0, log=True)
    y = _within(around([value for _, value in everything]), fraction)
    place = lambda points: [(x(left), y(value)) for left, value in points]             # noqa: E731
    path = place([*dense, *(recovered or pruned)])
    stems = [line([(x(a[0]), y(a[1])), (x(b[0]), y(b[1]))], HEIGHT, "stem") for a, b in zip(pruned, recovered, strict=False) if a[0] == b[0]]
    marks = [*stems, line(path, HEIGHT, "kept")]
    for points, kind, said in ((pruned, "hollow", "pruned"), (recovered, "kept", "recovered"), (dense, "dense", "dense")):
        marks += [dot(px, py, HEIGHT, kind, _said(said, left, value, size, metric, fraction)) for (px, py), (left, value) in zip(place(points), points, strict=True)]
    named = [("dense", "dense")] + ([("hollow", "after pruning")] if pruned else []) + ([("kept", "after recovery")] if recovered else [])
    legend = el("p", {"class": "legend"}, *[el("span", None, join(_disc(kind), word)) for kind, word in named])
    plot = frame(x, y, marks, HEIGHT, (f"{NAMES[size]}, share of the dense model", metric), (units.share, lambda value: units.quality(value, fraction)))
    return join(legend, plot)


def _within(scale: Scale, fraction: bool) -> Scale:
    return Scale(max(0.0, scale.lo), min(1.0, scale.hi)) if fraction and scale.lo < 1.0 and scale.hi > 0.0 else scale


def _said(which: str, left: float, value: float, size: str, metric: str, fraction: bool) -> str:
    return f"{which}: {metric} {units.quality(value, fraction)} at {units.share(left)} {NAMES[size]}"


def _disc(kind: str) -> Markup:
    return el("svg", {"width": 12, "height": 12, "class": "swatch", "aria-hidden": "true"}, el("circle", {"cx": 6, "cy": 6, "r": 4.5, "class": f"dot {kind}"}))


def _table(steps: Sequence[Mapping[str, Any]], size: str, full: float, fraction: bool) -> Markup:
    head = el("tr", None, *[el("th", None, word) for word in ("Round", NAMES[size].capitalize(), "Share", "Pruned", "Recovered")])
    body = [
        el("tr", None, *[el("td", None, text) for text in (
            str(step.get("round", "")), units.count(step.get(size)), units.share(step[size] / full if step.get(size) is not None else None),
            units.quality(step.get("quality"), fraction), units.quality(step.get("recovered"), fraction))])
        for step in steps
    ]
    return el("details", None, el("summary", None, f"The {len(steps)} rounds in figures"), el("div", {"class": "scroll"}, el("table", None, el("thead", None, head), el("tbody", None, *body))))


def _curve(points: Points, name: str, write: Any) -> Markup:
    first, final = points[0][0], points[-1][0]
    x, y = Scale(first, final if final > first else first + 1), around([value for _, value in points])
    whole = lambda value: f"{value:g}" if float(value).is_integer() else ""            # noqa: E731
    marks = [line([(x(epoch), y(value)) for epoch, value in points], 150, "kept")]
    marks += [dot(x(epoch), y(value), 150, "kept", f"epoch {epoch:g}: {name} {write(value)}", 3.5) for epoch, value in points]
    return frame(x, y, marks, 150, ("epoch", name), (whole, write))


def _moved(row: Mapping[str, Any]) -> float:
    after = last(row)
    return 0.0 if after is None else float(after) - float(row["before"])


def _class(row: Mapping[str, Any], reach: float, better: int, fraction: bool) -> Markup:
    moved, width = _moved(row), 50 * abs(_moved(row)) / reach
    kind = "gain" if better * moved > 0 else "loss"
    start = 50.0 if moved > 0 else 50 - width
    said = f"{row.get('label')}: {units.quality(row['before'], fraction)} → {units.quality(last(row), fraction)}"
    axis = el("line", {"x1": "50%", "x2": "50%", "y1": 0, "y2": 14, "class": "zero"})
    bar = el("rect", {"x": percent(start), "width": percent(width), "height": 14, "class": kind})
    drawing = el("svg", {"height": 14, "role": "img", "aria-label": said}, bar, axis, el("title", None, said))
    support = row.get("support")
    note = el("small", None, f"{units.quality(row['before'], fraction)} → {units.quality(last(row), fraction)}" + (f", {units.count(support)} examples" if support is not None else ""))
    name = el("span", {"class": "name"}, join(el("span", None, breakable(str(row.get("label")))), note))
    return el("li", None, name, drawing, el("span", {"class": "figure"}, units.change(moved, fraction)))


def _summary(rows: Sequence[Mapping[str, Any]], better: int, fraction: bool) -> str:
    fell, rose = (sum(sign * better * _moved(row) > 0 for row in rows) for sign in (-1, 1))
    text = f"{fell} of {len(rows)} classes got worse, {rose} better, {len(rows) - fell - rose} unchanged."
    fewest = min((row["support"] for row in rows if row.get("support")), default=None)
    if fewest and fraction:
        text += f" One example weighs {units.change(1 / fewest, True).lstrip('+')} in the class with the fewest ({fewest}), so smaller changes mean nothing there."
    return text


def _legend() -> Markup:
    return el("p", {"class": "legend"}, el("span", None, join(swatch("loss"), "worse")), el("span", None, join(swatch("gain"), "better")))


def _folded(drawn: Sequence[Markup]) -> list[Markup]:
    if len(drawn) <= WORST + BEST + 4:
        return [el("ol", {"class": "rows classes"}, *drawn)]
    between = drawn[WORST:-BEST]
    folded = el("details", None, el("summary", None, f"The {len(between)} classes between"), el("ol", {"class": "rows classes"}, *between))
    worst, best = (el("ol", {"class": "rows classes"}, *part) for part in (drawn[:WORST], drawn[-BEST:]))
    return [el("h3", None, "Lost most"), worst, el("h3", None, "Gained most"), best, folded]

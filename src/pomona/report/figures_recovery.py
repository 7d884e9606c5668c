"""The recovery: loss and quality by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.axes import Point, Scale, around, dot, frame, line
from pomona.report.markup import Markup, el, join

HEIGHT = 150


def recovery(report: Mapping[str, Any]) -> Markup | None:
    """One curve for the loss, one for the quality where it was followed; None where nothing was recovered."""
    run: Mapping[str, Any] = report.get("recovery") or {}
    if not run:
        return None
    epochs = [epoch for epoch in run.get("epochs") or () if epoch.get("epoch") is not None]
    seconds = run.get("seconds")
    took = f" in {units.duration(1000 * seconds)}" if seconds is not None else ""
    name = str(run.get("name") or "recovery")
    sentence = f"{name[:1].upper()}{name[1:]}: {len(epochs)} {'epoch' if len(epochs) == 1 else 'epochs'}{took}."
    losses, values = _points(epochs, "loss"), _points(epochs, "quality")
    metric = str((report.get("quality") or {}).get("metric") or "quality")
    fraction = units.is_fraction(metric, [value for _, value in values])
    curves = [_curve(losses, "loss", units.significant)] if losses else []
    curves += [_curve(values, metric, units.share if fraction else units.significant)] if values else []
    return join(el("p", None, sentence), el("div", {"class": "pair"}, *curves) if curves else None)


def _points(epochs: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    return [(float(epoch["epoch"]), float(epoch[key])) for epoch in epochs if epoch.get(key) is not None]


def _curve(points: Sequence[Point], name: str, write: Callable[[float], str]) -> Markup:
    first, final = points[0][0], points[-1][0]
    x, y = Scale(first, final if final > first else first + 1), around([value for _, value in points])
    places = [(x(epoch), y(value)) for epoch, value in points]
    tips = [f"epoch {epoch:g}: {name} {write(value)}" for epoch, value in points]
    dots = [dot(place, HEIGHT, "kept", tip, 3.5) for place, tip in zip(places, tips, strict=True)]
    return frame(x, y, [line(places, HEIGHT, "kept"), *dots], HEIGHT, ("epoch", name), (_epoch, write))


def _epoch(value: float) -> str:
    """Between two epochs there is nothing to read."""
    return f"{value:g}" if float(value).is_integer() else ""

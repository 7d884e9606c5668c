"""Scales, ticks and the frame that plots share.

Pictures are drawn in per cent of the width and pixels of the height: they stretch from a phone to a desk while letters keep
their size. Labels lie in the padding around the drawing, whose overflow is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from pomona.report import units
from pomona.report.markup import Markup, el, join, number, percent


@dataclass(frozen=True)
class Scale:
    """From values to [0, 1], linear or logarithmic. `lo < hi`, and both are positive where logarithmic."""

    lo: float
    hi: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where the value lies between lo (0) and hi (1); values beyond are held at the ends.

        >>> Scale(0, 10)(2.5), Scale(1, 100, log=True)(10), Scale(0, 1)(7)
        (0.25, 0.5, 1.0)
        """
        if self.log:
            place = (log10(max(value, 1e-300)) - log10(self.lo)) / (log10(self.hi) - log10(self.lo))
        else:
            place = (value - self.lo) / (self.hi - self.lo)
        return min(1.0, max(0.0, place))

    def ticks(self, about: int = 4) -> tuple[float, ...]:
        """Round values inside the scale.

        >>> Scale(0, 1).ticks(), Scale(1e-3, 1, log=True).ticks()
        ((0.0, 0.25, 0.5, 0.75, 1.0), (0.001, 0.01, 0.1, 1.0))
        """
        return _decades(self.lo, self.hi, about) if self.log else _round_steps(self.lo, self.hi, about)


def around(values: Sequence[float], pad: float = 0.12) -> Scale:
    """A linear scale with some air on both sides of the values."""
    lo, hi = min(values), max(values)
    air = (hi - lo) * pad or abs(hi) * pad or 1.0
    return Scale(lo - air, hi + air)


Point = tuple[float, float]
Write = Callable[[float], str]


def frame(
    x: Scale, y: Scale, marks: Sequence[Markup], height: int, labels: tuple[str, str], write: tuple[Write, Write]
) -> Markup:
    """A plot: grid, ticks, names of the two axes and the marks. `write` turns tick values into text, x first."""
    rows = [_row(y(tick), height, units.short(write[1](tick))) for tick in y.ticks()]
    columns = [_column(x(tick), height, units.short(write[0](tick))) for tick in x.ticks()]
    caption = el("p", {"class": "axis-name y"}, labels[1])
    described = {"height": height, "role": "img", "aria-label": f"{labels[1]} against {labels[0]}"}
    drawing = el("svg", described, *rows, *columns, *marks)
    return el("div", {"class": "plot framed"}, caption, drawing, el("p", {"class": "axis-name x"}, labels[0]))


def line(points: Sequence[Point], height: int, kind: str) -> Markup:
    """A polyline through points given in [0, 1] x [0, 1], y upwards."""
    path = " ".join(f"{number(100 * px)},{number(height * (1 - py))}" for px, py in points)
    shape = el("polyline", {"points": path, "class": f"line {kind}", "vector-effect": "non-scaling-stroke"})
    box = {"viewBox": f"0 0 100 {height}", "preserveAspectRatio": "none", "width": "100%", "height": height}
    return el("svg", box, shape)


def dot(at: Point, height: int, kind: str, tip: str, radius: float = 5.0) -> Markup:
    """A point in [0, 1] x [0, 1] with its tooltip."""
    place = {"cx": percent(100 * at[0]), "cy": height * (1 - at[1]), "r": radius, "class": f"dot {kind}"}
    return el("circle", place, el("title", None, tip))


def _row(py: float, height: int, text: str) -> Markup:
    at = height * (1 - py)
    rule = el("line", {"x1": "0", "x2": "100%", "y1": at, "y2": at, "class": "grid"})
    return join(rule, el("text", {"x": -8, "y": at + 4, "class": "tick end"}, text))


def _column(px: float, height: int, text: str) -> Markup:
    rule = el("line", {"x1": percent(100 * px), "x2": percent(100 * px), "y1": height, "y2": height + 5, "class": "grid"})
    return join(rule, el("text", {"x": percent(100 * px), "y": height + 18, "class": "tick middle"}, text))


def _round_steps(lo: float, hi: float, about: int) -> tuple[float, ...]:
    raw = (hi - lo) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = ceil(lo / step - 1e-9)
    return tuple(round(index * step, 12) for index in range(first, floor(hi / step + 1e-9) + 1))


def _decades(lo: float, hi: float, about: int) -> tuple[float, ...]:
    first, last = ceil(log10(lo) - 1e-9), floor(log10(hi) + 1e-9)
    if last - first < 1:  # less than a decade: 1, 2, 5 read better than one lonely tick
        return tuple(t for p in range(first - 1, last + 1) for f in (1, 2, 5) if lo <= (t := f * 10.0**p) <= hi * 1.001)
    every = max(1, ceil((last - first) / (about + 1)))
    return tuple(10.0**power for power in range(first, last + 1, every))

"""Latency as it was measured: every sample a dot, the middle half a box, 5 to 95 % a whisker, the median a stroke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.axes import Scale
from pomona.report.markup import Markup, el, join, percent
from pomona.report.verdict import not_faster, speedup

LANE = 64
DOTS = 240  # more would only thicken the same cloud


def latency(report: Mapping[str, Any]) -> Markup | None:
    """The picture and the sentence under it; None where latency was not measured."""
    measured: Mapping[str, Any] = report.get("latency") or {}
    if speedup(measured) is None:
        return None
    lanes = [lane for lane in (_lane("dense", measured, "before"), _lane("pruned", measured, "after")) if lane[1]]
    parts = [_picture(lanes) if lanes else None, el("p", None, _sentence(measured))]
    if measured.get("faster") is False:
        parts += [el("p", {"class": "callout"}, _advice(measured))]
    return join(*parts)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation in a sorted sequence.

    >>> quantile([1.0, 2.0, 4.0], 0.5), quantile([1.0, 2.0, 4.0], 0.75)
    (2.0, 3.0)
    """
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _lane(name: str, measured: Mapping[str, Any], when: str) -> tuple[str, list[float]]:
    samples = [float(t) for t in measured.get(f"samples_{when}_ms") or () if t is not None]
    median = measured.get(f"{when}_ms")
    return name, sorted(samples) if samples else [float(median)] if median is not None else []


def _picture(lanes: Sequence[tuple[str, list[float]]]) -> Markup:
    # A lone hiccup of the machine must not squeeze the rest: samples far beyond the whiskers are counted, not drawn.
    reach = max(1.25 * quantile(samples, 0.95) for _, samples in lanes) or 1.0
    scale, height = Scale(0.0, reach), LANE * len(lanes)
    ticks = [_tick(scale, tick, height) for tick in scale.ticks()]
    drawn = [_draw(name, samples, scale, LANE * index) for index, (name, samples) in enumerate(lanes)]
    label = "; ".join(f"{name}: median {units.duration(quantile(samples, 0.5))}" for name, samples in lanes)
    drawing = el("svg", {"height": height, "role": "img", "aria-label": label}, *ticks, *drawn)
    beyond = sum(sum(t > reach for t in samples) for _, samples in lanes)
    note = f"{beyond} slower {'sample' if beyond == 1 else 'samples'} beyond the right edge not drawn."
    return el("div", {"class": "plot lanes"}, drawing, el("p", {"class": "fine"}, note) if beyond else None)


def _tick(scale: Scale, value: float, height: int) -> Markup:
    text = units.short(units.duration(value)) if value else "0"
    words = el("text", {"x": percent(100 * scale(value)), "y": height + 18, "class": "tick middle"}, text)
    return join(_upright(100 * scale(value), 0, height, "grid"), words)


def _draw(name: str, samples: Sequence[float], scale: Scale, top: int) -> Markup:
    kind, middle = ("dense" if name == "dense" else "kept"), top + 38
    cuts = [quantile(samples, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    low, first, median, third, high = (100 * scale(cut) for cut in cuts)
    value, between = units.duration(cuts[2]), f"{units.duration(cuts[0])} and {units.duration(cuts[4])}"
    words = el("text", {"x": 0, "y": top + 17, "class": "lane-name"}, f"{name}  {value}")
    tip = f"{name}: median {value}, 90 % of {len(samples)} samples between {between}"
    ends = {"x1": percent(low), "x2": percent(high), "y1": middle, "y2": middle, "class": f"whisker {kind}"}
    spread = [
        *_dots(samples, scale, middle, kind),
        el("line", ends),
        *[_upright(at, middle - 5, middle + 5, f"whisker {kind}") for at in (low, high)],
        _block(first, third, middle, 16, f"box {kind}"),
    ]
    bar, stroke = _block(0.0, median, middle, 28, f"{kind} faint"), _upright(median, middle - 14, middle + 14, f"median {kind}")
    return el("g", None, words, bar, *(spread if len(samples) > 1 else ()), stroke, el("title", None, tip))


def _upright(at: float, top: float, bottom: float, kind: str) -> Markup:
    return el("line", {"x1": percent(at), "x2": percent(at), "y1": top, "y2": bottom, "class": kind})


def _block(start: float, end: float, middle: float, high: float, kind: str) -> Markup:
    place = {"x": percent(start), "width": percent(end - start), "y": middle - high / 2, "height": high}
    return el("rect", {**place, "class": kind})


def _dots(samples: Sequence[float], scale: Scale, middle: int, kind: str) -> list[Markup]:
    """At most DOTS of the samples, spread over the lane by a fixed low-discrepancy pattern: the same report, the same picture."""
    every = -(-len(samples) // DOTS)
    places = [
        (scale(t), middle - 11 + 22 * (0.618034 * index % 1.0)) for index, t in enumerate(samples[::every]) if t <= scale.hi
    ]
    return [el("circle", {"cx": percent(100 * x), "cy": y, "r": 2, "class": f"sample {kind}"}) for x, y in places]


def _sentence(measured: Mapping[str, Any]) -> str:
    factor, spread = speedup(measured), measured.get("spread") or ()
    between = ""
    if len(spread) == 2 and all(spread):
        low, high = sorted(1 / float(ratio) for ratio in spread)
        between = f", over the pairs between {units.times(low)} and {units.times(high)}"
    how = [
        f"batch {measured['batch']}" if measured.get("batch") is not None else "",
        _threads(measured.get("threads")),
        f"{measured['pairs']} interleaved pairs" if measured.get("pairs") is not None else "",
    ]
    settings = ", ".join(word for word in how if word) or "unknown settings"
    return f"The pruned model runs at {units.times(factor)} the speed of the dense one{between}. Measured with {settings}."


def _threads(threads: int | None) -> str:
    return "" if threads is None else "1 thread" if threads == 1 else f"{threads} threads"


def _advice(measured: Mapping[str, Any]) -> Markup:
    reason = measured.get("reason") or "the reason was not determined"
    advice = measured.get("advice")
    return join(
        el("b", None, f"{not_faster(measured)}. "),
        _sentence_case(str(reason)),
        join(" ", el("b", None, "What would help: "), _sentence_case(str(advice))) if advice else None,
    )


def _sentence_case(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."

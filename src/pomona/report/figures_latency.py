"""Latency as it was measured: every sample a dot, the middle half a box, 5 to 95 % a whisker, the median a stroke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.axes import Scale
from pomona.report.markup import Markup, el, join, percent
from pomona.report.verdict import speedup

LANE = 64
DOTS = 240                                             # more would only thicken the same cloud


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
    beyond = sum(sum(t > reach for t in samples) for _, samples in lanes)
    note = el("p", {"class": "fine"}, f"{beyond} slower {'sample' if beyond == 1 else 'samples'} beyond the right edge not drawn.") if beyond else None
    return el("div", {"class": "plot lanes"}, el("svg", {"height": height, "role": "img", "aria-label": label}, *ticks, *drawn), note)


def _tick(scale: Scale, value: float, height: int) -> Markup:
    at = percent(100 * scale(value))
    rule = el("line", {"x1": at, "x2": at, "y1": 0, "y2": height, "class": "grid"})
    return join(rule, el("text", {"x": at, "y": height + 18, "class": "tick middle"}, units.duration(value) if value else "0"))


def _draw(name: str, samples: Sequence[float], scale: Scale, top: int) -> Markup:
    kind, middle = ("dense" if name == "dense" else "kept"), top + 38
    low, first, median, third, high = (100 * scale(quantile(samples, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
    bar = el("rect", {"x": 0, "width": percent(median), "y": middle - 14, "height": 28, "class": f"{kind} faint"})
    whisker = el("line", {"x1": percent(low), "x2": percent(high), "y1": middle, "y2": middle, "class": f"whisker {kind}"})
    ends = [el("line", {"x1": percent(x), "x2": percent(x), "y1": middle - 5, "y2": middle + 5, "class": f"whisker {kind}"}) for x in (low, high)]
    box = el("rect", {"x": percent(first), "width": percent(third - first), "y": middle - 8, "height": 16, "class": f"box {kind}"})
    stroke = el("line", {"x1": percent(median), "x2": percent(median), "y1": middle - 14, "y2": middle + 14, "class": f"median {kind}"})
    value = quantile(samples, 0.5)
    words = el("text", {"x": 0, "y": top + 17, "class": "lane-name"}, f"{name}  {units.duration(value)}")
    tip = f"{name}: median {units.duration(value)}, 90 % of {len(samples)} samples between {units.duration(quantile(samples, 0.05))} and {units.duration(quantile(samples, 0.95))}"
    spread = [whisker, *ends, box] if len(samples) > 1 else []
    return el("g", None, words, bar, *_dots(samples, scale, middle, kind), *spread, stroke, el("title", None, tip))


def _dots(samples: Sequence[float], scale: Scale, middle: int, kind: str) -> list[Markup]:
    """At most DOTS of the samples, spread over the lane by a fixed low-discrepancy pattern: the same report, the same picture."""
    every = max(1, -(-len(samples) // DOTS))
    drawn = [t for t in samples[::every] if t <= scale.hi] if len(samples) > 1 else []
    return [
        el("circle", {"cx": percent(100 * scale(t)), "cy": middle - 11 + 22 * ((index * 0.618034) % 1.0), "r": 2, "class": f"sample {kind}"})
        for index, t in enumerate(drawn)
    ]


def _sentence(measured: Mapping[str, Any]) -> str:
    factor, spread = speedup(measured), measured.get("spread") or ()
    between = ""
    if len(spread) == 2 and all(spread):
        low, high = sorted(1 / float(ratio) for ratio in spread)
        between = f", over the pairs between {units.times(low)} and {units.times(high)}"
    how = [f"batch {measured['batch']}" if measured.get("batch") is not None else "", _threads(measured.get("threads")),
           f"{measured['pairs']} interleaved pairs" if measured.get("pairs") is not None else ""]
    return f"The pruned model runs at {units.times(factor)} the speed of the dense one{between}. Measured with {', '.join(word for word in how if word) or 'unknown settings'}."


def _threads(threads: int | None) -> str:
    return "" if threads is None else "1 thread" if threads == 1 else f"{threads} threads"


def _advice(measured: Mapping[str, Any]) -> Markup:
    reason = measured.get("reason") or "the reason was not determined"
    advice = measured.get("advice")
    return join(el("b", None, "Not faster. "), _sentence_case(str(reason)), join(" ", el("b", None, "What would help: "), _sentence_case(str(advice))) if advice else None)


def _sentence_case(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."

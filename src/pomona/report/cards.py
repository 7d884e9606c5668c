"""The key numbers as cards: what is left, what there was, and a bar between the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pomona.report import units
from pomona.report.markup import Markup, el, percent
from pomona.report.verdict import as_fraction, last, reduction, speedup

PRICES: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("params", "Parameters", units.count),
    ("nonzeros", "Non-zeros", units.count),
    ("macs", "MACs", units.count),
    ("bytes", "On disk", units.size),
    ("kv", "KV cache a token", units.size),
)


def cards(report: Mapping[str, Any]) -> Markup:
    """Six cards: parameters, non-zeros, MACs, bytes, latency, quality; keys and values where they changed. What was not measured
    says so.
    """
    asked = [price for price in PRICES if price[0] != "kv" or report.get("kv")]
    prices = [_price(label, report.get(key), write) for key, label, write in asked]
    return el("div", {"class": "cards"}, *prices, _latency(report.get("latency") or {}), _quality(report.get("quality") or {}))


def bar(left: float) -> Markup:
    """A thin bar of which the fraction `left` is filled."""
    full = el("rect", {"width": "100%", "height": 6, "rx": 3, "class": "gone"})
    kept = el("rect", {"width": percent(100 * min(1.0, max(0.0, left))), "height": 6, "rx": 3, "class": "kept"})
    return el("svg", {"class": "bar", "height": 6, "aria-hidden": "true"}, full, kept)


def _price(label: str, pair: Mapping[str, Any] | None, write: Callable[[float | None], str]) -> Markup:
    before, after = (pair or {}).get("before"), (pair or {}).get("after")
    if before is None or after is None:
        return _unmeasured(label)
    factor = reduction(pair)
    said = "unchanged" if before == after else f"{units.times(factor)} fewer" if factor and factor > 1 else "more than before"
    said = said.replace("fewer", "smaller") if write is units.size else said
    return _card(label, write(after), f"of {write(before)}", bar(after / before if before else 1.0), said)


def _latency(latency: Mapping[str, Any]) -> Markup:
    factor = speedup(latency)
    if factor is None:
        return _unmeasured("Latency")
    said = f"{units.times(factor)} {'faster' if latency.get('faster') else 'the speed'}"
    value, before = units.duration(latency.get("after_ms")), f"of {units.duration(latency.get('before_ms'))}"
    return _card("Latency", value, before, bar(float(latency["ratio"])), said)


def _quality(quality: Mapping[str, Any]) -> Markup:
    before, after, fraction = quality.get("before"), last(quality), as_fraction(quality)
    if before is None or after is None:
        return _unmeasured("Quality")
    label = str(quality.get("metric") or "Quality")
    filled = bar(after if fraction else min(before, after) / max(before, after) if before > 0 and after > 0 else 0.0)
    return _card(
        label[:1].upper() + label[1:],
        units.quality(after, fraction),
        f"from {units.quality(before, fraction)}",
        filled,
        units.change(after - before, fraction),
    )


def _card(label: str, value: str, before: str, picture: Markup, said: str) -> Markup:
    figure = el("p", {"class": "value"}, value)
    note = el("p", {"class": "note"}, el("span", None, before), el("b", None, said))
    return el("div", {"class": "card"}, el("p", {"class": "label"}, label), figure, picture, note)


def _unmeasured(label: str) -> Markup:
    return el(
        "div",
        {"class": "card unmeasured"},
        el("p", {"class": "label"}, label),
        el("p", {"class": "value"}, units.MISSING),
        el("p", {"class": "note"}, "not measured"),
    )

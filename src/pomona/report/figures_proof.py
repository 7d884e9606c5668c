"""The proof: the largest difference on a logarithmic line against the tolerance, and which groups it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from pomona.report import units
from pomona.report.axes import Scale
from pomona.report.caveats import approximate, count, listed
from pomona.report.markup import Markup, el, join, percent

FORMS = {
    "eager": "the rebuilt PyTorch modules",
    "graph": "the rewritten graph",
    "masked": "the masked model itself, since nothing was cut out",
}
EXACT = "Removing these units and setting them to zero are the same function."
APPROXIMATE = (
    "Over these axes runs a softmax, a normaliser or a mean. Removing a unit there is another function than setting it to zero: "
    "the statistics are taken over the units that stay. The comparison does the same in the masked model, so it is as strict for "
    "these groups as for the others; but a model trained with zeros in their place only approximates the one handed back. "
    "With --exact (exact=True in Python) these axes stay whole."
)


def proof(report: Mapping[str, Any]) -> Markup | None:
    """What was compared, how far apart it was, and the groups; None where there was no proof."""
    found: Mapping[str, Any] = report.get("proof") or {}
    if found.get("passed") is None:
        return None
    notes = [el("p", {"class": "fine"}, str(note)) for note in found.get("notes") or ()]
    return join(
        el("p", None, _sentence(found)),
        _ruler(found.get("max_error"), found.get("tolerance")),
        _seen(found.get("sensitivity")),
        *notes,
        _groups("exact", dict.fromkeys(found.get("exact_groups") or (), ()), EXACT),
        _groups("approximate", approximate(report), APPROXIMATE),
    )


def _sentence(found: Mapping[str, Any]) -> str:
    form = FORMS.get(str(found.get("form")), "the result")
    verdict = "They agree within the tolerance" if found["passed"] else "They do not agree, and the model must not be used"
    return f"The same inputs went through the original model, its removed units masked, and through {form}. {verdict}."


def _seen(sensitivity: float | None) -> Markup | None:
    if sensitivity is None:
        return None
    return el(
        "p",
        {"class": "fine"},
        f"Another input moves the output by {units.amount(sensitivity)}: the comparison had something to see.",
    )


def _ruler(error: float | None, tolerance: float | None) -> Markup | None:
    """Powers of ten from 1e-18 or below the error to 1 or above it; the part within the tolerance is shaded."""
    if error is None or tolerance is None or tolerance <= 0:
        return None
    scale = Scale(10.0 ** min(-18, _power(error)), 10.0 ** max(0, _power(error) + 1, _power(tolerance) + 1), log=True)
    limit, at = 100 * scale(tolerance), 100 * scale(error) if error else 0.0
    kind = "good" if error <= tolerance else "bad"
    marks = [
        el("rect", {"x": 0, "width": percent(limit), "y": 18, "height": 12, "class": "zone"}),
        el("line", {"x1": 0, "x2": "100%", "y1": 30, "y2": 30, "class": "grid"}),
        *[_tick(100 * scale(tick), tick) for tick in scale.ticks(5)],
        el("line", {"x1": percent(limit), "x2": percent(limit), "y1": 8, "y2": 34, "class": "limit"}),
        el(
            "text",
            {"x": percent(limit), "y": 68, "class": "tick strong-limit middle"},
            f"tolerance {units.scientific(tolerance)}",
        ),
        el("circle", {"cx": percent(at), "cy": 24, "r": 6, "class": f"mark {kind}"}),
        el("text", {"x": percent(at), "y": 1, "class": f"tick strong {_side(at)}"}, _error(error)),
    ]
    label = f"largest difference {units.scientific(error)}, tolerance {units.scientific(tolerance)}"
    return el("div", {"class": "plot ruler"}, el("svg", {"height": 56, "role": "img", "aria-label": label}, *marks))


def _error(error: float) -> str:
    return f"largest difference {units.scientific(error)}" if error else "bit-identical"


def _side(at: float) -> str:
    return "start" if at < 32 else "end" if at > 68 else "middle"


def _power(value: float) -> int:
    return int(log10(value)) - 1 if value > 0 else 0


def _tick(at: float, value: float) -> Markup:
    power = str(round(log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return join(
        el("line", {"x1": percent(at), "x2": percent(at), "y1": 30, "y2": 35, "class": "grid"}),
        el("text", {"x": percent(at), "y": 50, "class": "tick middle"}, f"10{power}"),
    )


def _groups(kind: str, groups: Mapping[str, Sequence[str]], meaning: str) -> Markup | None:
    """`groups`: name -> the normalisers that run over it."""
    if not groups:
        return None
    title = el("summary", None, count(groups, f"{kind} group"))
    return el(
        "details",
        None,
        title,
        el("p", None, meaning),
        el("ul", {"class": "names"}, *[el("li", None, *_group(name, over)) for name, over in groups.items()]),
    )


def _group(name: str, over: Sequence[str]) -> list[Markup | str]:
    return [el("code", None, str(name)), *([f" {listed(over)}"] if over else [])]

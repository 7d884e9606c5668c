"""The sections in words: the method, what was left alone and why, notes, how to repeat it, on which machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.report import units
from pomona.report.bars import breakable
from pomona.report.markup import Markup, el, join

FOLD = 8


def method(report: Mapping[str, Any]) -> Markup | None:
    """The sentence of the recipe, its text form and its papers."""
    recipe: Mapping[str, Any] = report.get("recipe") or {}
    if not recipe:
        return None
    papers = [el("li", None, str(paper)) for paper in recipe.get("papers") or ()]
    facts = [
        ("Structure", recipe.get("structure")),
        ("Needs", ", ".join(str(need) for need in recipe.get("needs") or ()) or "no data"),
        ("When", recipe.get("when")),
    ]
    return join(
        el("p", {"class": "sentence"}, str(recipe.get("sentence") or recipe.get("method") or "")),
        el("p", None, str(recipe["summary"])) if recipe.get("summary") else None,
        facts_list(facts),
        el("pre", {"class": "scroll"}, el("code", None, str(recipe["text"]))) if recipe.get("text") else None,
        join(el("h3", None, "Papers"), el("ul", {"class": "papers"}, *papers)) if papers else None,
    )


def frozen(report: Mapping[str, Any]) -> Markup | None:
    """Axes that could not be pruned, gathered by reason; None where everything could."""
    reasons: dict[str, list[str]] = {}
    for row in report.get("frozen") or ():
        reasons.setdefault(str(row.get("reason") or "no reason recorded"), []).append(str(row.get("axis") or "unnamed"))
    if not reasons:
        return None
    total = sum(len(axes) for axes in reasons.values())
    rows = [
        el("tr", None, el("td", None, reason), el("td", {"class": "number"}, str(len(axes))), el("td", None, _names(axes)))
        for reason, axes in reasons.items()
    ]
    head = el("tr", None, *[el("th", None, word) for word in ("Reason", "Axes", "Which")])
    table = el("div", {"class": "scroll"}, el("table", {"class": "words"}, el("thead", None, head), el("tbody", None, *rows)))
    text = f"{total} {'axis was' if total == 1 else 'axes were'} left whole."
    return join(
        el("p", None, text),
        el("details", None, el("summary", None, f"{len(reasons)} reasons"), table) if len(reasons) > FOLD else table,
    )


def notes(report: Mapping[str, Any]) -> Markup | None:
    """What the run wanted its reader to know."""
    said = [el("li", None, str(note)) for note in report.get("notes") or ()]
    return el("ul", None, *said) if said else None


def repeat(report: Mapping[str, Any]) -> Markup | None:
    """The command, the seed, the files, the machine."""
    model: Mapping[str, Any] = report.get("model") or {}
    run = facts_list(
        [
            ("Seed", report.get("seed")),
            ("Goal", report.get("goal")),
            ("Model", model.get("source") or model.get("name")),
            ("Plan", report.get("plan")),
            ("Output", report.get("out")),
            ("Pomona", report.get("pomona")),
            ("Made", moment(report.get("created"))),
        ]
    )
    command = report.get("command")
    shown = (
        el("pre", {"class": "command"}, el("code", None, str(command)))
        if command
        else el("p", {"class": "fine"}, "Called from Python: no command line to repeat.")
    )
    machine: Mapping[str, Any] = report.get("machine") or {}
    facts = [
        ("CPU", machine.get("cpu")),
        ("Cores", machine.get("cores")),
        ("Threads", machine.get("threads")),
        ("PyTorch", machine.get("torch")),
        ("Python", machine.get("python")),
        ("System", machine.get("platform")),
    ]
    return join(shown, run, join(el("h3", None, "Machine"), facts_list(facts)) if machine else None)


def facts_list(facts: Sequence[tuple[str, object]]) -> Markup | None:
    """Names and values in two columns; values that are None vanish."""
    pairs = [
        el("div", None, el("dt", None, name), el("dd", None, breakable(str(value)))) for name, value in facts if value is not None
    ]
    return el("dl", {"class": "facts"}, *pairs) if pairs else None


def moment(created: str | None) -> str | None:
    """An ISO time without its T, to the minute.

    >>> moment("2026-11-24T16:00:00Z")
    '2026-11-24 16:00 UTC'
    """
    if not created:
        return None
    date, _, clock = str(created).partition("T")
    return f"{date} {clock[:5]}{' UTC' if clock.endswith(('Z', '+00:00')) else ''}".strip()


def sites(report: Mapping[str, Any]) -> Markup | None:
    """Units by site, before and after, as a folded table."""
    listed = report.get("sites") or ()
    if not listed:
        return None
    head = el("tr", None, *[el("th", None, word) for word in ("Site", "Kind", "Family", "Before", "After", "Left")])
    rows = [
        el(
            "tr",
            None,
            el("td", None, el("code", None, str(row.get("name") or "unnamed"))),
            el("td", None, str(row.get("kind") or "")),
            el("td", None, str(row.get("family") or "")),
            *[
                el("td", {"class": "number"}, text)
                for text in (units.whole(row.get("before")), units.whole(row.get("after")), _left(row))
            ],
        )
        for row in listed
    ]
    table = el("div", {"class": "scroll"}, el("table", {"class": "sites"}, el("thead", None, head), el("tbody", None, *rows)))
    return el("details", None, el("summary", None, f"The {len(listed)} sites, unit by unit"), table)


def _left(row: Mapping[str, Any]) -> str:
    before, after = row.get("before"), row.get("after")
    return units.share(after / before) if before and after is not None else units.MISSING


def _names(axes: Sequence[str]) -> Markup:
    shown = [el("code", None, breakable(axis)) for axis in axes[:FOLD]]
    parts = [part for name in shown for part in (name, " ")]
    if len(axes) <= FOLD:
        return join(*parts)
    rest = [part for axis in axes[FOLD:] for part in (el("code", None, breakable(axis)), " ")]
    return join(*parts, el("details", None, el("summary", None, f"and {len(axes) - FOLD} more"), *rest))

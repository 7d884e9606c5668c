"""The page: the sections in the order in which a person asks, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from pomona.report import (
    figures_classes,
    figures_errors,
    figures_latency,
    figures_layers,
    figures_proof,
    figures_recovery,
    figures_rounds,
    figures_tasks,
    prose,
)
from pomona.report.cards import cards
from pomona.report.markup import Markup, el, join
from pomona.report.twin import clean
from pomona.report.verdict import Claim, judge

Section = Callable[[Mapping[str, Any]], Markup | None]


def _removed(report: Mapping[str, Any]) -> Markup | None:
    return join(figures_layers.layers(report), prose.sites(report)) or None


SECTIONS: tuple[tuple[str, str, str, Section], ...] = (
    ("layers", "What was removed", "A layer is drawn as large as it is expensive.", _removed),
    ("tradeoff", "Quality against size", "The dense model, every round, and what training won back.", figures_rounds.rounds),
    ("latency", "Latency", "Dense and pruned took turns on the same machine. A dot is one run.", figures_latency.latency),
    ("classes", "Class by class", "An average can hide who pays for it.", figures_classes.classes),
    ("tasks", "Tasks", "Asked by lm-evaluation-harness, of the dense and of the final model.", figures_tasks.tasks),
    ("errors", "Layer by layer", "What each puts out, before and after.", figures_errors.errors),
    ("proof", "The proof", "Is the small model the function that was decided on?", figures_proof.proof),
    ("frozen", "Left alone", "Axes that were not pruned, and why.", prose.frozen),
    ("method", "The method", "The recipe as a sentence, and where it comes from.", prose.method),
    ("recovery", "Recovery", "Training after pruning.", figures_recovery.recovery),
    ("notes", "Notes", "Said by the run itself.", prose.notes),
    ("repeat", "Repeat it", "The command, the seed and the machine.", prose.repeat),
)
MISSED = {
    "latency": "Latency was not measured: nothing here says that the pruned model is faster.",
    "proof": "No proof was made: nothing here says that the pruned model equals the masked one.",
}
# Nothing may be loaded from anywhere, whatever a name in the report says.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html(report: Mapping[str, Any]) -> str:
    """The whole page for a report dictionary; keys that are null or missing leave their section out."""
    report = clean(report)
    title = f"{(report.get('model') or {}).get('name') or 'Model'}, pruned"
    head = el(
        "head",
        None,
        el("meta", {"charset": "utf-8"}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        el("meta", {"name": "color-scheme", "content": "light dark"}),
        el("title", None, title),
        el("style", None, Markup(_resource("style.css"))),
    )
    sections = [_section(key, name, lead, build(report)) for key, name, lead, build in SECTIONS]
    foot = el("footer", None, f"Pomona {report.get('pomona') or ''}. The same figures for machines: report.json.")
    body = el(
        "body",
        None,
        _hatch(),
        _header(report),
        el("main", None, el("section", {"id": "numbers"}, cards(report)), *sections),
        foot,
        el("script", None, Markup(_resource("page.js"))),
    )
    return f"<!doctype html>\n{el('html', {'lang': 'en'}, head, body)}\n"


def _header(report: Mapping[str, Any]) -> Markup:
    verdict = judge(report)
    model, recipe = report.get("model") or {}, report.get("recipe") or {}
    facts = [recipe.get("method"), report.get("goal"), prose.moment(report.get("created"))]
    kicker = el(
        "p",
        {"class": "kicker"},
        join(el("b", None, str(model.get("name") or "Model")), *[el("span", None, str(fact)) for fact in facts if fact]),
    )
    claims = el("ul", {"class": "claims"}, *[_claim(claim) for claim in verdict.claims])
    why = [text for text in (verdict.reason, verdict.advice) if text]
    lead = el("p", {"class": "lead"}, " ".join(_full_stop(text) for text in why)) if why else None
    return el("header", {"id": "verdict"}, kicker, el("h1", None, verdict.sentence), lead, claims)


def _claim(claim: Claim) -> Markup:
    sign = {"good": "✓", "bad": "✕", "open": "○"}[claim.tone]
    return el("li", {"class": claim.tone}, el("i", {"aria-hidden": "true"}, sign), claim.text)


def _section(key: str, name: str, lead: str, content: Markup | None) -> Markup | None:
    if content is None and key not in MISSED:
        return None
    side = el("div", {"class": "side"}, el("h2", None, name), el("p", None, lead))
    main = el("div", {"class": "main"}, content if content is not None else el("p", {"class": "missed"}, MISSED[key]))
    return el("section", {"id": key if content is not None else f"no-{key}"}, side, main)


def _hatch() -> Markup:
    """The pattern for stored zeros, shared by all pictures."""
    stroke = el("path", {"d": "M0 5 5 0", "class": "hatching"})
    pattern = el("pattern", {"id": "hatch", "width": 5, "height": 5, "patternUnits": "userSpaceOnUse"}, stroke)
    return el("svg", {"width": 0, "height": 0, "class": "shared", "aria-hidden": "true"}, el("defs", None, pattern))


def _full_stop(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _resource(name: str) -> str:
    return files("pomona.report").joinpath(name).read_text(encoding="utf-8")

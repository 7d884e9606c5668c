"""`pomona methods`: the taxonomy, and one card. Everything on it is derived from the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import pomona
from pomona.cli import options
from pomona.cli.answer import Answer
from pomona.cli.refusal import one_of

if TYPE_CHECKING:
    from pomona.vocabulary import Paper, Recipe

COLUMNS = ("method", "summary", "structure", "needs", "when", "paper")
SLOTS = ("criterion", "allocation", "schedule", "order", "gate", "regulariser", "solver", "recovery")


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False, help="Show one card.")] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """List the methods, or show one."""
    known = pomona.methods()
    if name is None:
        rows = [row(method, recipe) for method, recipe in known.items()]
        footer = Text(
            "pomona methods NAME shows of what parts it is made: criterion, allocation, schedule, solver, recovery.", "dim"
        )
        document = [{**entry, **made_of(known[entry["method"]])} for entry in rows]
        return Answer({"methods": document}, Group(_table(rows), Text(), footer))
    chosen = one_of(name.replace("_", "-"), known, "a method")
    shown = card(chosen, known[chosen])
    return Answer(shown, _page(shown))


def row(name: str, recipe: Recipe) -> dict[str, str]:
    """One line of the table: strings by the names of COLUMNS."""
    paper = _cited(recipe.papers[0]) if recipe.papers else ""
    needs = ", ".join(need for need in ("data", "labels", "loss", "gradients") if need in recipe.needs)
    structure = str(recipe.structure)
    return dict(zip(COLUMNS, (name, recipe.summary, structure, needs or "nothing", recipe.when, paper), strict=True))


def made_of(recipe: Recipe) -> dict[str, str | None]:
    """The names of a method's parts by SLOTS, None where there is none: what the table has no room for."""
    return {slot: type(part).__name__ if (part := recipe.parts.get(slot)) is not None else None for slot in SLOTS}


def card(name: str, recipe: Recipe) -> dict[str, Any]:
    """All there is to say about one method: its row, its sentence, its text form, its papers, its parts and what they say."""
    from pomona.face.sentence import sentence
    from pomona.vocabulary import spell

    parts = [{"word": word, "part": spell(part), "about": _first_line(part)} for word, part in recipe.parts.items()]
    papers = [str(paper) for paper in recipe.papers]
    return (
        row(name, recipe)
        | made_of(recipe)
        | {"sentence": sentence(recipe, None), "text": str(recipe), "papers": papers, "parts": parts}
    )


def _cited(paper: Paper) -> str:
    first, *others = paper.authors.split(", ")
    return f"{first} et al. {paper.year}" if others else f"{first} {paper.year}"


def _first_line(part: Any) -> str:
    return (type(part).__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


def _table(rows: list[dict[str, str]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in COLUMNS:
        table.add_column(column, style="bold" if column == "method" else "", no_wrap=column == "method")
    for entry in rows:
        table.add_row(*(Text(entry[column]) for column in COLUMNS))
    return table


def _page(shown: dict[str, Any]) -> RenderableType:
    facts = Text(f"needs {shown['needs']}; works {WHEN[shown['when']]}", "dim")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for part in shown["parts"]:
        table.add_row(Text(part["word"], "dim"), Text(part["part"], "bold"), Text(part["about"]))
    heading = Text(shown["method"], "bold")
    recipe = Padding(Text(shown["text"], overflow="fold"), (0, 0, 0, 2))
    papers = [Text(paper, "italic") for paper in shown["papers"]]
    top = (heading, Text(shown["summary"]), facts, Text(), Text(shown["sentence"]), Text(), table)
    return Group(*top, Text(), Text("as text, for --method:", "dim"), recipe, Text(), *papers)


WHEN = {"init": "before training", "during": "during training", "post": "on a trained model"}

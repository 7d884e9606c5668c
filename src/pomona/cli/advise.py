"""`pomona advise`: which zeros would make a model faster on this machine, before any is made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching

if TYPE_CHECKING:
    from pomona.face.advise import Advice


def advise(
    model: options.Model,
    input: options.Input = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    structure: Annotated[
        str,
        typer.Option("--structure", metavar="NAME", help="The wish: weights, 2:4, block:4x1, 8x1 or 16x1, channels."),
    ] = "weights",
    sparsity: Annotated[float, typer.Option("--sparsity", metavar="SHARE", help="The wish: so many zeros.")] = 0.5,
    values: Annotated[str, typer.Option("--values", metavar="KIND", help="Weights may be stored as f32, bf16 or int8.")] = "f32",
    no_channels: Annotated[
        bool, typer.Option("--no-channels", help="Leave removed channels out, which need the model's graph.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Foretell which structure at which sparsity would make MODEL faster on this machine."""
    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        found = pomona.advise(
            opened.model,
            opened.args,
            opened.kwargs,
            structure=structure,
            sparsity=sparsity,
            values=values,
            channels=not no_channels,
            progress=progress,
            **words.given(batch=batch, threads=threads),
        )
    return Answer({"model": model, **_document(found)}, Group(*_said(found)))


def _document(found: Advice) -> dict[str, object]:
    told = asdict(found)
    for option in told["options"]:
        option["shares"] = {f"{sparsity:g}": share for sparsity, share in option["shares"].items()}
    return told


def _said(found: Advice) -> list[Text | Table]:
    weights = "cold" if found.cold else "warm"
    head = f"{found.dense_ms:.3g} ms dense, {found.layers_share:.0%} of it in layers that can be packed; {weights} weights."
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    sparsities = sorted({sparsity for option in found.options for sparsity in option.shares})
    for heading in ("share of the dense latency", "0%", *(f"{sparsity:.0%}" for sparsity in sparsities), "pays from"):
        table.add_column(heading, justify="left" if heading.startswith("share") else "right")
    for option in found.options:
        cells = [f"{option.unpruned:.2f}"]
        cells += [f"{option.shares[s]:.2f}" if s in option.shares else "" for s in sparsities]
        table.add_row(option.structure, *cells, "never" if option.pays_from is None else f"{option.pays_from:.0%}")
    verdict = Text(found.told, "bold green" if found.pays else "bold yellow")
    return [verdict, Text(), table, Text(), Text(head, "dim"), *(Text(note, "yellow") for note in found.notes)]

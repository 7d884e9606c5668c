"""`pomona bench`: the latency of two models, or of one in every engine, measured turn by turn in one run."""

from __future__ import annotations

from collections.abc import Iterator
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
from pomona.cli.refusal import refused

if TYPE_CHECKING:
    from pomona.runtime import Latency
    from pomona.runtime.engines import EngineTable


def bench(
    before: Annotated[str, typer.Argument(metavar="BEFORE", show_default=False, help="A model, as for `pomona prune`.")],
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="AFTER",
            show_default=False,
            help="The one to compare with it. Without it BEFORE is tried in every engine: outputs, file sizes, latency.",
        ),
    ] = None,
    input: options.Input = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    cold: Annotated[bool, typer.Option("--cold", help="Empty the caches before every pass.")] = False,
    clock: Annotated[
        str, typer.Option("--clock", metavar="NAME", help="wall, or cpu: processor time, for machines that are busy otherwise.")
    ] = "wall",
    pin: Annotated[bool, typer.Option("--pin", help="Stay on as many processors as there are threads.")] = False,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="NAME",
            show_default=False,
            help="Time BEFORE there too: compile, pt2, aoti, onnxruntime, onnxruntime-sparse, openvino, or all; without AFTER "
            "also pomona, pomona-compile, decoder, packed, compressed-tensors, gguf, and all is the default.",
        ),
    ] = None,
    values: Annotated[
        str,
        typer.Option(
            "--values", metavar="KIND", help="Without AFTER: how pomona and decoder may store weights: f32, bf16, int8."
        ),
    ] = "f32",
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="SHARE",
            show_default="1e-4; 0.03 in half precision",
            help="Without AFTER: how far outputs may be off the model's, as a share of the largest.",
        ),
    ] = None,
    limit: Annotated[bool, typer.Option("--limit", help="Say what this machine could take at least for AFTER.")] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Say the energy of a pass: by counters, else estimated.")] = False,
    watts: Annotated[float, typer.Option("--watts", metavar="W", help="Of a busy core, where no counter can be read.")] = 10.0,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time BEFORE and AFTER interleaved, on the same inputs: medians, their ratio and its spread; or BEFORE in every engine."""
    progress = watching()
    ticks = words.clock(clock)
    if after is None:
        if energy:
            raise refused("--energy compares two models; name AFTER, too.")
        wanted = words.deployed(engines or [])
        with words.new(None):
            opened = words.open_model(before, input, progress, packed=False)
            table = pomona.bench(
                opened.model,
                opened.args,
                opened.kwargs,
                engines=wanted,
                values=values,
                cold=cold,
                clock=ticks,
                pin=pin,
                tolerance=tolerance,
                progress=progress,
                **words.given(batch=batch, threads=threads),
            )
        return Answer({"model": before, **table.document()}, Group(*_shown(table)))
    if values != "f32" or tolerance is not None:
        raise refused("--values and --tolerance are for one model in every engine; leave them or AFTER out.")
    named = words.engines(engines or [])
    with words.new(None):
        old, new = words.open_model(before, input, progress), words.open_model(after, input, progress)
        found = pomona.measure_latency(
            old.model,
            new.model,
            old.args,
            old.kwargs,
            progress=progress,
            engines=named,
            cold=cold,
            clock=ticks,
            pin=pin,
            limit=limit,
            energy=energy,
            watts=watts,
            **words.given(batch=batch, threads=threads),
        )
    return Answer({"before": before, "after": after, **asdict(found)}, Text("\n".join(_said(before, after, found))))


def _shown(found: EngineTable) -> list[Text | Table]:
    from pomona.runtime.engines.table import HEAD  # loads torch

    verdict = Text(found.told, "bold green" if found.best else "bold yellow")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in HEAD:
        table.add_column(heading, justify="left" if heading in ("engine", "") else "right", overflow="fold")
    for row, cells in zip(found.rows, found.cells(), strict=True):
        style = "bold" if row is found.best else "dim" if row.ms is None else "" if row.holds else "yellow"
        table.add_row(*map(Text, cells), style=style)  # not markup: clauses hold brackets
    return [verdict, Text(), table, Text(), Text(f"{found.measured}.", "dim")]


def _said(before: str, after: str, found: Latency) -> Iterator[str]:
    weights = ", cold weights" if found.cold else ""
    clock = ", processor time" if found.clock == "cpu" else ""
    where = f", on processors {', '.join(map(str, found.pinned))}" if found.pinned else ""
    how = f"over {found.pairs} pairs), batch {found.batch}, threads {found.threads}{where}{weights}{clock}"
    yield f"{before}  {found.before_ms:.3g} ms"
    yield f"{after}  {found.after_ms:.3g} ms"
    yield f"ratio {found.ratio:.3g} {_spread(found.spread)} {how}"
    for rival in found.rivals:
        yield f"{before} in {rival.engine}  {rival.ms:.3g} ms; ratio to that {rival.ratio:.3g} {_spread(rival.spread)})"
    if found.limit_ms is not None:
        yield f"limit of this machine for {after}  {found.limit_ms:.3g} ms, {found.reached} of it reached"
    if found.joules is not None:
        yield f"energy {found.joules[0]:.3g} and {found.joules[1]:.3g} J a pass (by {found.energy_by})"


def _spread(spread: tuple[float, float]) -> str:
    return f"({spread[0]:.3g} to {spread[1]:.3g}"

"""`pomona bench`: the latency of two models, measured turn by turn in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching

if TYPE_CHECKING:
    from pomona.runtime import Latency


def bench(
    before: Annotated[str, typer.Argument(metavar="BEFORE", show_default=False, help="A model, as for `pomona prune`.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", show_default=False, help="The one to compare with it.")],
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
            "--engine", metavar="NAME", show_default=False, help="Time BEFORE there too: compile, onnxruntime, openvino, or all."
        ),
    ] = None,
    limit: Annotated[bool, typer.Option("--limit", help="Say what this machine could take at least for AFTER.")] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Say the energy of a pass: by counters, else estimated.")] = False,
    watts: Annotated[float, typer.Option("--watts", metavar="W", help="Of a busy core, where no counter can be read.")] = 10.0,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Time BEFORE and AFTER interleaved, on the same inputs: medians, their ratio and its spread."""
    progress = watching()
    ticks, named = words.clock(clock), words.engines(engines or [])
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
        yield f"limit of this machine for {after}  {found.limit_ms:.3g} ms, {found.limit_ms / found.after_ms:.0%} of it reached"
    if found.joules is not None:
        yield f"energy {found.joules[0]:.3g} and {found.joules[1]:.3g} J a pass (by {found.energy_by})"


def _spread(spread: tuple[float, float]) -> str:
    return f"({spread[0]:.3g} to {spread[1]:.3g}"

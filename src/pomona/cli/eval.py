"""`pomona eval`: how good a model is on data, and at tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching
from pomona.cli.refusal import refused

if TYPE_CHECKING:
    from pomona.evaluate import Quality, TaskScore


def evaluate(
    model: options.Model,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", show_default=False, help="What to measure on.")] = None,
    metric: options.Metric = None,
    tasks: options.Tasks = None,
    include_path: options.IncludePath = None,
    limit: options.Limit = None,
    shots: options.Shots = None,
    dense: Annotated[
        str | None,
        typer.Option("--dense", metavar="MODEL", show_default=False, help="What agreement, kl and tasks compare with."),
    ] = None,
    input: options.Input = None,
    length: Annotated[int, typer.Option(min=2, metavar="TOKENS", help="Windows of text.")] = 128,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Measure the quality of MODEL on DATA, or at tasks of lm-evaluation-harness."""
    if data is None and tasks is None:
        raise refused("Say what to measure on: --data DATA, or --tasks hellaswag,arc_easy.")
    progress = watching()
    with words.new(None):
        opened = words.open_model(model, input, progress)
        asked = words.tasks(tasks, opened, include_path, limit, shots)
        other = words.open_model(dense, input, progress).model if dense else None
        document: dict[str, Any] = {"model": model}
        lines: list[str] = []
        if data is not None:
            brought = words.open_data(data, opened, progress, length=length)
            found = pomona.evaluate(
                opened.model, brought.test, metric or brought.metric, dense=other, names=brought.classes, progress=progress
            )
            document |= {"data": data, **asdict(found)}
            lines += _measured(found)
        if asked is not None:
            compared = {(s.task, s.metric, s.filter): s.value for s in asked(other)} if other is not None else {}
            scores = asked(opened.model)
            document["tasks"] = [asdict(s) | {"dense": compared.get((s.task, s.metric, s.filter))} for s in scores]
            lines += _scored(scores, compared)
    return Answer(document, Text("\n".join(lines)))


def _measured(found: Quality) -> list[str]:
    parts = [f"  {part.label}  {part.value:.4g} on {part.support}" for part in found.per_class]
    return [f"{found.metric} {found.value:.4g} on {found.examples} examples", *parts]


def _scored(scores: Sequence[TaskScore], dense: Mapping[tuple[str, str, str], float]) -> list[str]:
    lines = []
    for s in scores:
        spread = "" if s.stderr is None else f" ± {s.stderr:.2g}"
        before = dense.get((s.task, s.metric, s.filter))
        beside = "" if before is None else f", dense {before:.4g}"
        named = s.metric if s.filter == "none" else f"{s.metric} ({s.filter})"
        lines.append(f"{s.task}: {named} {s.value:.4g}{spread}{beside}" + (f" on {s.examples} examples" if s.examples else ""))
    return lines

"""`pomona export`: a model as a file for another runtime, checked against the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching
from pomona.cli.refusal import one_of

SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2"}


def export(
    model: options.Model,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="onnx (checked with ONNX Runtime) or pt2 (torch.export).")
    ] = "onnx",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", show_default="model.FORMAT", help="The file; must not exist yet.")
    ] = Path("model"),
    input: options.Input = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Write MODEL to a file for another runtime, and check that it gives the same outputs."""
    suffix = SUFFIXES[one_of(to, SUFFIXES, "an export format")]
    path = out if out.suffix else out.with_suffix(suffix)
    from pomona.runtime import export_onnx, export_program  # loads torch

    write = {"onnx": export_onnx, "pt2": export_program}[to]
    progress = watching()
    with words.new(path):
        opened = words.open_model(model, input, progress)
        with progress.stage(f"exporting to {to}"):
            found = write(opened.model, opened.args, opened.kwargs, path)
    return Answer({"model": model, "to": to, "out": str(path), **found}, Text(f"{path}  max error {found['max_error']:.2g}"))

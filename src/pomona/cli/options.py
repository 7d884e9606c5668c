"""The arguments that several commands share, with their help, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="A transformers folder or hub id, timm:NAME, module:function, file.py:function, a .pt2 file, efficientnet-lite0, "
        "minilm, smollm2, or a folder that pomona wrote.",
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="SHAPE",
        show_default="known from MODEL",
        help="Shapes like 1,3,224,224 (several: 1,8;1,3), or module:function.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA", show_default=False, help="A text file, a folder of pictures, arrays, or module:function."
    ),
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", show_default="what fits the data", help="accuracy, perplexity, f1, ..."),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="NAMES",
        show_default=False,
        help="Tasks of lm-evaluation-harness to measure: hellaswag,arc_easy.",
    ),
]
IncludePath = Annotated[
    Path | None,
    typer.Option("--include-path", metavar="FOLDER", show_default=False, help="Where further tasks are defined, as YAML files."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", show_default="all", help="So many examples of each task.")
]
Shots = Annotated[
    int | None,
    typer.Option("--shots", min=0, metavar="N", show_default="as the task says", help="Solved examples before each question."),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, metavar="N", show_default="as in the input", help="Examples in one timed pass."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, metavar="N", show_default="torch's own", help="CPU threads for the timed passes."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="The same seed gives the same plan.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="PATH", show_default=False, help="Where the result goes; must not exist yet."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

"""`pomona export`: a model for another runtime, or its folder with the weights written anew; checked against the original."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.progress import watching
from pomona.cli.refusal import one_of, refused

SUFFIXES = {
    "onnx": ".onnx",
    "pt2": ".pt2",
    "openvino": ".xml",
    "gguf": ".gguf",
    "packed": "",
    "compressed-tensors": "",
    "safetensors": "",
}
DTYPES = ("float32", "float16", "bfloat16")


def export(
    model: options.Model,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="Files: onnx (checked with ONNX Runtime), openvino (.xml and .bin), pt2 (torch.export), gguf (llama.cpp). "
            "Folders: packed (sparse weights as bits and values), compressed-tensors (its sparse-bitmask), "
            "safetensors (dense, opens anywhere).",
        ),
    ] = "onnx",
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", show_default="model.FORMAT", help="The file or folder; must not exist yet."),
    ] = Path("model"),
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            show_default="as stored; gguf: float16",
            help="float32, float16, bfloat16; gguf also q8_0. For gguf and folders.",
        ),
    ] = None,
    max_shard: Annotated[
        str | None,
        typer.Option(metavar="SIZE", show_default="1GB", help="Largest file of weights in a folder, like 500MB."),
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="onnx: store weights without their zeros where that is smaller; no faster by it.")
    ] = False,
    input: options.Input = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer:
    """Write MODEL to a file for another runtime, or its folder with packed or plain weights, and check what was written."""
    suffix = SUFFIXES[one_of(to, SUFFIXES, "an export format")]
    path = out if out.suffix or not suffix else out.with_suffix(suffix)
    if sparse and to != "onnx":
        raise refused(f"--sparse goes with --to onnx, not with --to {to}.")
    with words.new(path):
        if suffix in (".onnx", ".pt2", ".xml"):
            return _program(model, to, path, input, dtype, sparse)
        if not Path(model).is_dir():
            raise refused(f"--to {to} takes the weights of a folder, and there is no folder '{model}'; save the model first.")
        return _gguf(model, path, dtype) if to == "gguf" else _folder(model, to, path, dtype, max_shard)


def _program(model: str, to: str, path: Path, input: str | None, dtype: str | None, sparse: bool) -> Answer:
    """The model opened, run, and written as a program."""
    if dtype is not None:
        raise refused(f"--dtype does not go with --to {to}: a program has the types of its model.")
    from pomona.runtime import export_onnx, export_openvino, export_program  # loads torch

    write: Any = {"onnx": partial(export_onnx, sparse=sparse), "pt2": export_program, "openvino": export_openvino}[to]
    progress = watching()
    opened = words.open_model(model, input, progress)
    with progress.stage(f"exporting to {to}"):
        found = write(opened.model, opened.args, opened.kwargs, path)
    return _answer(model, to, path, found, f"{path}  max error {found['max_error']:.2g}")


def _gguf(model: str, path: Path, dtype: str | None) -> Answer:
    from pomona.runtime.gguf import TYPES, export_gguf

    progress = watching()
    found = export_gguf(model, path, one_of(dtype or "float16", TYPES, "a type of weights"), progress)
    for note in found["notes"]:
        progress.note(note)
    return _answer(model, "gguf", path, found, f"{path}  {found['bytes'] / 1e6:.1f} MB, max error {found['max_error']:.2g}")


def _folder(model: str, to: str, path: Path, dtype: str | None, max_shard: str | None) -> Answer:
    wanted = None if dtype is None else one_of(dtype, DTYPES, "a type of weights")
    largest = None if max_shard is None else words.size(max_shard, "--max-shard")
    import torch

    from pomona.face.compressed import export_compressed
    from pomona.face.packing import export_folder

    kind = None if wanted is None else getattr(torch, wanted)
    write = export_compressed if to == "compressed-tensors" else partial(export_folder, packed=to == "packed")
    found = write(Path(model), path, dtype=kind, largest=largest, progress=watching())
    share = f", {found['weights']} packed weights at {found['share']:.1%} of dense" if found["weights"] else ""
    return _answer(model, to, path, found, f"{path}  {found['bytes'] / 1e6:.1f} MB in {len(found['files'])} files{share}")


def _answer(model: str, to: str, path: Path, found: dict[str, Any], line: str) -> Answer:
    return Answer({"model": model, "to": to, "out": str(path), **found}, Text(line))

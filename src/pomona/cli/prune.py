"""`pomona prune`: a model and a goal go in, a folder with the smaller model, its plan and its report comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

import pomona
from pomona.cli import options, words
from pomona.cli.answer import Answer
from pomona.cli.together import together


def prune(
    context: typer.Context,
    model: options.Model,
    method: Annotated[
        str | None,
        typer.Option(
            show_default="magnitude; latency-aware for a goal in latency",
            help="A name from `pomona methods`, or a recipe in text form.",
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="COST=N",
            show_default=False,
            help="sparsity=0.9, params=0.5x, macs=0.25x, latency=0.5x or 12ms, kv=0.5x, or by family: heads=0.5,neurons=0.7.",
        ),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(show_default="the method's own", help="weights, 2:4, block:16x1, channels, heads+neurons, layers, ..."),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            show_default="the method's own",
            help="How channels change places so that n:m keeps more: swaps, assignment, none.",
        ),
    ] = None,
    data: options.Data = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="DATA", show_default="--data", help="Held-out data for the quality in the report."),
    ] = None,
    overlap: Annotated[bool, typer.Option("--overlap", help="Allow a --test that holds passages of --data.")] = False,
    metric: options.Metric = None,
    tasks: options.Tasks = None,
    include_path: options.IncludePath = None,
    limit: options.Limit = None,
    shots: options.Shots = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default="the model's own", help="cross-entropy, mse, or module:function."),
    ] = None,
    recover: Annotated[
        str | None,
        typer.Option(
            show_default="the method's own",
            help="finetune:3epochs, distil:200steps, perp:200steps, masklora:200steps, recalibrate, none, ...",
        ),
    ] = None,
    input: options.Input = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            show_default="all",
            help="Prune only what matches: names, patterns, families, classes; may be repeated.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", "--skip", metavar="PATTERN", show_default="none", help="Leave alone what matches; may be repeated."
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Prune only where no normaliser runs over what is pruned.")] = False,
    release: Annotated[
        str | None, typer.Option(metavar="output", show_default="none", help="Let what the model returns become narrower.")
    ] = None,
    min: Annotated[
        list[str] | None,
        typer.Option(metavar="[PATTERN=]SHARE", show_default="none", help="Share of the units that must stay; may be repeated."),
    ] = None,
    max: Annotated[
        list[str] | None,
        typer.Option(metavar="[PATTERN=]SHARE", show_default="none", help="Share of the units that may stay; may be repeated."),
    ] = None,
    multiple: Annotated[int, typer.Option(min=1, help="Round kept counts to multiples of this.")] = 1,
    sequential: Annotated[
        bool | None,
        typer.Option(
            "--sequential/--no-sequential",
            show_default="where the method reads activations",
            help="Prune block by block, each judged by what the pruned ones before it give.",
        ),
    ] = None,
    true_sequential: Annotated[
        bool,
        typer.Option("--true-sequential", help="Decide the layers of a block one by one, each on what those before it give."),
    ] = False,
    blocks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", show_default="found", help="A list of blocks, like model.layers; may be repeated."),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=2, metavar="TOKENS", show_default="2048, less where a text is short", help="Windows of text."),
    ] = None,
    sample: Annotated[
        str,
        typer.Option(metavar="HOW", help="windows: text from end to end. random: places in documents, drawn by --seed."),
    ] = "windows",
    calibrate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Batches of --data to calibrate on; 64 are 128 windows of 2048 tokens.")
    ] = 64,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", show_default="none", help="Stream the weights of a folder and take no more than this: 2GB, 800MB."
        ),
    ] = None,
    batch: options.Batch = None,
    threads: options.Threads = None,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Time the dense and the pruned model.")] = True,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default="torch", help="cpu-sparse, gpu-2:4, gpu-sparse: sparse kernels where they are faster."
        ),
    ] = None,
    values: Annotated[
        str, typer.Option(metavar="KIND", help="How sparse kernels store weights: f32 (exact), bf16 or int8 where faster.")
    ] = "f32",
    seed: options.Seed = 0,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default="none",
            help="Where statistics are kept, for other goals without a new pass over the data.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", show_default="none", help="Where a long run is kept; the same command goes on after a kill."
        ),
    ] = None,
    out: options.Out = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> Answer | None:
    """Prune MODEL to a goal, prove the result equal to the masked model, measure it and save it."""
    from pomona.face.folders import check_outside
    from pomona.face.saving import notes_of
    from pomona.report import renderable

    if out is not None:
        check_outside(out, model)
    with together() as (processes, progress), words.new(out, checkpoint):
        if out is None:
            progress.note("No --out: the result is measured and shown, but not saved.")
        words.target(target, values)
        allowed, wanted = words.limits(min or (), max or (), multiple), words.loss(loss)
        drawn = words.drawn(sample, calibrate)
        where: dict[str, Any] = {"only": tuple(only or ()), "keep": tuple(keep or ()), "blocks": tuple(blocks or ())}
        where |= {"calibrate": calibrate, "true_sequential": true_sequential}
        if max_memory is not None:
            unfit = {
                "--recover": recover,
                "--test": test,
                "--tasks": tasks,
                "--no-sequential": sequential is False,
                "--exact": exact,
                "--order": order != "none" and order,
                "--statistics": statistics,
                "--target": target,
            }
            return _streamed(
                model,
                words.streamed(out, unfit),
                (data, length, drawn),
                progress,
                method=method,
                goal=goal,
                structure=structure,
                limits=allowed,
                seed=seed,
                checkpoint=checkpoint,
                max_memory=max_memory,
                processes=processes,
                command=context.obj,
                **where,
            )
        opened = words.open_model(model, input, progress)
        asked = words.tasks(tasks, opened, include_path, limit, shots)
        learn, window = words.calibration(data, opened, progress, seed, length, drawn) if data else (None, length or 128)
        wish: dict[str, Any] = {
            "method": method,
            "goal": goal,
            "structure": structure,
            "order": order,
            "data": learn.train if learn else None,
            "loss": wanted,
            "limits": allowed,
            "exact": exact,
            "release": release,
            "sequential": sequential,
            "seed": seed,
            "statistics": statistics,
            "checkpoint": checkpoint,
            **where,
        }
        if not processes.first:  # it helps to decide, and leaves the rest to the first
            pomona.plan(opened.model, opened.args, opened.kwargs, **wish, processes=processes)
            return None
        held_out = words.open_data(test, opened, progress, seed, window) if test else learn
        if test and learn and held_out and not overlap:
            words.apart(learn, held_out)
        result = pomona.prune(
            opened.model,
            opened.args,
            opened.kwargs,
            **wish,
            recover=recover,
            test=held_out.test if held_out else None,
            metric=metric or (held_out.metric if held_out else "accuracy"),
            tasks=asked,
            latency=latency and (words.given(batch=batch, threads=threads) or True),
            processes=processes,
            progress=progress,
            source=opened.loaded.source if opened.loaded else None,
            command=context.obj,
        )
        fast: Any = None
        told: dict[str, Any] = {"values": values, "latency": latency, "progress": progress}
        if target == "cpu-sparse":
            fast = result.accelerate(**words.given(batch=batch, threads=threads), **told)
        elif target is not None:
            fast = result.accelerate_gpu(target=target, **words.given(batch=batch), **told)
        if out is not None:
            # What runs on a GPU was chosen for that GPU: the folder holds the plain weights.
            result.save(out, **words.given(fast=fast if target == "cpu-sparse" else None))
    places: dict[str, Any] = {}
    if out is not None:
        places = {"out": str(out), "plan": str(out / "plan.safetensors"), "notes": notes_of(out)}
        for note in places["notes"][len(result.report["notes"]) :]:
            progress.note(note)
    if fast is None:
        return Answer(result.report | places, renderable(result.report))
    shown = Group(renderable(result.report), Text(f"\n{fast.table()}"))
    return Answer(result.report | places | {"accelerated": fast.document()}, shown)


def _streamed(model: str, out: Path, text: tuple[Any, ...], progress: Any, **wish: Any) -> Answer | None:
    """The run whose model is never whole in memory."""
    opened = words.skeleton(model)
    data = words.calibration(text[0], opened, progress, wish["seed"], *text[1:])[0] if text[0] else None
    assert opened.loaded is not None
    result = pomona.prune_folder(opened.loaded.source.value, out, data=data.train if data else None, progress=progress, **wish)
    if not wish["processes"].first:
        return None
    told, size = result.report, result.report["memory"]
    lines = [
        told["recipe"]["sentence"],
        f"{told['nonzeros']['after']:,} of {told['nonzeros']['before']:,} parameters are left, in {out}.",
        f"{size['peak'] / 1e9:.2f} GB of memory at the peak, of {size['limit'] / 1e9:.2f} allowed; {told['seconds']:.0f} s.",
    ]
    return Answer(told, "\n".join(lines))

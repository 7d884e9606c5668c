"""The commands put together, and the edge at which every error becomes a sentence and an exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import wraps
from typing import Annotated, Any

import typer

import pomona
from pomona.cli.advise import advise
from pomona.cli.answer import Answer
from pomona.cli.bench import bench
from pomona.cli.demo import demo
from pomona.cli.doctor import doctor
from pomona.cli.eval import evaluate
from pomona.cli.export import export
from pomona.cli.inspect import inspect
from pomona.cli.interrupt import remembered
from pomona.cli.methods import methods
from pomona.cli.prune import prune
from pomona.cli.refusal import INTERRUPTED, Interrupted, Quiet, explain, one_of
from pomona.cli.report import report

Command = Callable[..., "Answer | None"]  # None: another process has the answer
EXAMPLES: dict[Command, str] = {
    demo: "pomona demo -o demo/",
    prune: "pomona prune timm:resnet18 --method magnitude --structure channels --goal macs=0.5x -o out/",
    inspect: "pomona inspect timm:resnet18 --input 1,3,224,224",
    methods: "pomona methods wanda",
    evaluate: "pomona eval out/ --data pictures/ --metric accuracy",
    advise: "pomona advise timm:resnet50 --batch 1 --threads 1 --structure block:8x1 --sparsity 0.8",
    bench: "pomona bench timm:resnet50 timm:resnet18 --threads 1",
    export: "pomona export out/ --to onnx -o model.onnx",
    report: "pomona report out/",
    doctor: "pomona doctor",
}
NAMES: dict[Command, str] = {evaluate: "eval"}  # a Python word


class Commands(typer.core.TyperGroup):
    """The group of commands; knows the nearest spelling of a wrong one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse an unknown command before typer does, with the right spelling."""
        one_of(args[0], self.commands, "a command")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    help="Prune PyTorch models: proven equal to the masked model, measured on this machine.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
def _pomona(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(pomona.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _chatting_on_stderr(command: Command) -> Command:
    """Libraries print where they like; stdout belongs to the answer."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Answer | None:
        with redirect_stdout(sys.stderr):
            return command(*args, **kwargs)

    return run


for command, example in EXAMPLES.items():
    app.command(NAMES.get(command, command.__name__), epilog=f"Example: {example}")(_chatting_on_stderr(command))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code: 0, 2 for bad input, 130 for Ctrl-C, 1 for a failure."""
    json, debug = "--json" in arguments, "--debug" in arguments
    with remembered() as interrupted:
        try:
            answer = app(list(arguments), standalone_mode=False, prog_name="pomona", obj=shlex.join(["pomona", *arguments]))
            if answer == INTERRUPTED:  # typer hands Ctrl-C back as a number where a command did not see it
                raise KeyboardInterrupt
            if isinstance(answer, Answer):
                answer.print(sys.stdout, json)
        except (Exception, KeyboardInterrupt) as error:
            known = isinstance(error, (Interrupted, Quiet)) or not interrupted()
            return explain(error if known else KeyboardInterrupt(), json, debug)
    return 0

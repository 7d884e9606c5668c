"""How the command line says no: one sentence on stderr (and as JSON where asked), and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

import typer

from pomona.cli.answer import print_json

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

# Typer carries its own copy of click from 0.20 on: its base of usage errors is found through the class that all versions export.
USAGE: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


class Interrupted(Exception):
    """Ctrl-C, with a sentence on what state is left."""


class Quiet(Exception):
    """The end of a process whose run was ended by another one, which says why."""

    def __init__(self, code: int) -> None:
        super().__init__("ended by another process")
        self.code = code


def refused(sentence: str) -> Exception:
    """An InputError, made here so that nothing loads torch before there is something to say."""
    from pomona.vocabulary import InputError

    return InputError(sentence)


def one_of(text: str, known: Iterable[str], what: str) -> str:
    """`text` if it is known; else an InputError that names the nearest, or all."""
    names = list(known)
    if text in names:
        return text
    close = get_close_matches(text, names, 1)
    raise refused(f"'{text}' is not {what}; " + (f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(names)}."))


def explain(error: BaseException, json: bool, debug: bool) -> int:
    """Say what went wrong; the exit code: 2 for bad input, 130 for Ctrl-C, 1 for everything else."""
    if isinstance(error, Quiet):
        return error.code
    if debug:
        traceback.print_exception(error)
    sentence, code = _judge(error)
    print(sentence, file=sys.stderr)
    if json:
        print_json({"error": sentence}, sys.stdout)
    return code


def code_of(error: BaseException) -> int:
    """The exit code of a command that ends so."""
    return _judge(error)[1]


def _judge(error: BaseException) -> tuple[str, int]:
    if isinstance(error, Interrupted):
        return str(error), INTERRUPTED
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "Interrupted; nothing was written.", INTERRUPTED
    if isinstance(error, USAGE):
        return _usage(error), REFUSED
    from pomona.processes import Lost
    from pomona.vocabulary import InputError, ProofError

    if isinstance(error, InputError):
        return str(error), REFUSED
    if isinstance(error, Lost):
        return str(error), FAILED
    if isinstance(error, ProofError):
        return f"The pruned model does not equal the masked one, so nothing was written: {error}", FAILED
    return f"Pomona failed with {type(error).__name__}: {error} (--debug shows where)", FAILED


def _usage(error: Exception) -> str:
    near = getattr(error, "possibilities", None)
    if near:
        return f"There is no option {getattr(error, 'option_name', '')}; did you mean {near[0]}?"
    return str(getattr(error, "format_message", error.__str__)())

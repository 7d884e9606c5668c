"""The two ways in which Pomona says no."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot work. The message is one sentence: what was wrong and what would be right.

    The command line prints it and exits with 2; nothing has been written and the inputs are untouched.
    """


class Untraceable(InputError):
    """The model cannot be written down as a graph of ops. Single weights can be pruned all the same."""


def first_line(error: BaseException) -> str:
    """What somebody else's error says, short enough for a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class ProofError(RuntimeError):
    """The pruned model does not equal the masked one. Nothing leaves the tool after this."""

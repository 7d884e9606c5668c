"""A command that several processes run together: one of them is heard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from pomona.cli.progress import watching
from pomona.cli.refusal import Quiet, code_of

if TYPE_CHECKING:
    from pomona.processes import Processes
    from pomona.vocabulary import Progress


@contextmanager
def together() -> Iterator[tuple[Processes, Progress]]:
    """The processes that `torchrun` started, and where progress is shown: on the screen of the first, nowhere in the others.

    Raises Quiet where an error in another process, which tells it, ended the run.
    """
    from pomona.processes import Elsewhere, joined
    from pomona.vocabulary import Silent

    try:
        with joined() as processes:
            if processes.first:
                yield processes, watching()
                return
            nowhere = _Nowhere()
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield processes, Silent()
    except Elsewhere as error:
        raise Quiet(code_of(error.cause)) from None


class _Nowhere(io.TextIOBase):
    """Takes whatever libraries say."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)

"""How processes end together: the first to fail says why, once, and the others leave without a word."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from torch.distributed.distributed_c10d import Store

from pomona.vocabulary import InputError

_PATIENCE = 3.0  # seconds for the others to clean up before a launcher kills them
_WHY, _TOLD, _LEFT, _GONE = "why", "told", "left", "gone"


class Lost(RuntimeError):
    """Another process of the run is gone or silent."""


class Elsewhere(Exception):
    """The run ended because of an error in another process, which has told it; `cause` is that error."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"Another process of this run ended it: {cause}")
        self.cause = cause


@dataclass(frozen=True, eq=False)
class Notice:
    """What the processes of a run leave for each other in `store` when they end."""

    store: Store
    number: int

    def post(self, error: BaseException) -> BaseException | None:
        """Say why the run ends; None where this process is the first to say so, else the error that ended it before."""
        if self.store.add(_TOLD, 1) == 1:
            kind = "input" if isinstance(error, InputError) else "stop" if _stopped(error) else "failure"
            self.store.set(_WHY, json.dumps([kind, str(error)]))
            return None
        kind, sentence = json.loads(self.store.get(_WHY))
        kinds: dict[str, type[BaseException]] = {"input": InputError, "stop": KeyboardInterrupt}
        return kinds.get(kind, RuntimeError)(sentence)

    def leave(self, *, wait: bool, last: bool) -> None:
        """Say that this process is through; `wait` a little for the others, who are about to find out.

        The one that may keep the store goes `last`.
        """
        end = time.monotonic() + _PATIENCE
        self.store.add(_LEFT, 1)
        if wait:
            self._until(_LEFT, end)
        self.store.add(_GONE, 1)
        if last:
            self._until(_GONE, end)

    def _until(self, word: str, end: float) -> None:
        while self.store.add(word, 0) < self.number and time.monotonic() < end:
            time.sleep(0.05)


def _stopped(error: BaseException) -> bool:
    """Whether it is Ctrl-C, or a sentence that was made of it."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)

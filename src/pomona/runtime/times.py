"""How long ops take on this machine: measured once, kept in the user's cache folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pomona.runtime.kept import Kept
from pomona.runtime.made import Made
from pomona.runtime.timing import least_seconds
from pomona.vocabulary import first_line


class Times(Kept[float]):
    """Seconds by op and shapes, for one CPU, one torch and one number of threads; what is asked for is measured if need be.

    They are the least that a call was seen to take, so that what else the machine does while the table is made is not in it.

    `notes` say what went wrong on the way: a damaged file, an op that does not run on made-up inputs (its time counts as
    none).
    """

    kind: ClassVar[str] = "op-times"
    what: ClassVar[str] = "op times"
    format: ClassVar[int] = 2

    @classmethod
    def entry(cls, found: Any) -> float:
        """See `Kept.entry`."""
        return float(found)

    def seconds(self, made: Made) -> float:
        """The time of one call, its inputs in memory; measured at the first asking. Only inside `measuring`."""
        name = made.name
        if name not in self.known:
            self.known[name] = self.new[name] = self._measured(made)
        return self.known[name]

    def _measured(self, made: Made) -> float:
        call: Callable[[], Any] = made.ready()
        try:
            call()
        # The op is anybody's and its inputs are made up: whatever it raises means that it cannot be timed by itself.
        except Exception as error:
            self.notes.append(f"{made.target} cannot be timed by itself ({first_line(error)}); the table counts it as nothing.")
            return 0.0
        return least_seconds(call)

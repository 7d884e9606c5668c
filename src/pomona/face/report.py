"""What a run cost and bought, as plain data that reads like an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEARD = 5


class Report(dict[str, Any]):
    """A dictionary of plain values whose entries are attributes too: `report.proof.max_error`."""

    @classmethod
    def of(cls, value: Any) -> Any:
        """Nested dictionaries become reports; everything else stays what it is."""
        if isinstance(value, dict):
            return cls({key: cls.of(entry) for key, entry in value.items()})
        if isinstance(value, (list, tuple)):
            return [cls.of(entry) for entry in value]
        return value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the report has no '{name}'; it has {', '.join(self)}") from None


def heard(notes: Sequence[str]) -> list[str]:
    """The notes that are told while the run goes on: the first few, and how many more the report has.

    >>> heard(["a", "b"]), heard(list("abcdefg"))[-2:]
    (['a', 'b'], ['e', 'The report has 2 more notes like these.'])
    """
    more = len(notes) - _HEARD
    return [*notes[:_HEARD], *([f"The report has {more} more note{'s' * (more > 1)} like these."] if more > 0 else [])]

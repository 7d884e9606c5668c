"""What a run cost and bought, as plain data that reads like an object."""

from __future__ import annotations

from typing import Any


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

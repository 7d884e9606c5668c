"""Rows to a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def page(rows: Sequence[Row]) -> str:
    """TODO: the page."""
    forms = Counter(row.get("form", "failure") for row in rows)
    return f"{forms}\n"

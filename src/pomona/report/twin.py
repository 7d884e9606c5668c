"""The JSON twin: the report dictionary as strict JSON, where not-a-number is null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any


def clean(value: object, where: str = "report") -> Any:
    """The same data in plain dicts, lists, numbers and strings; infinities and not-a-number become None.

    Raises TypeError with the place in the report if something is not data.

    >>> clean({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): clean(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{where} is a {type(value).__name__}; a report holds numbers, strings, lists and mappings only.")


def to_json(report: Mapping[str, Any]) -> str:
    """Strict JSON (RFC 8259), two-space indent, keys in the report's own order, a newline at the end."""
    return json.dumps(clean(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

"""One small function an op. Every module of this package registers its rules when it is imported."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache


@cache
def load() -> None:
    """Import every module of rules, once."""
    for entry in sorted(pkgutil.iter_modules(__path__), key=lambda e: e.name):
        importlib.import_module(f"{__name__}.{entry.name}")

"""Hand-written networks: those of `tests/architectures`, where each is a claim by name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

TESTS = Path(__file__).parents[2] / "tests"


def networks() -> dict[str, tuple[Callable[[], nn.Module], Any]]:
    """Name -> (what makes the network, its example inputs)."""
    sys.path.insert(0, str(TESTS))  # where the tests' own helpers are
    found: dict[str, tuple[Callable[[], nn.Module], Any]] = {}
    for path in sorted((TESTS / "architectures").glob("test_*.py")):
        for name, case in getattr(_loaded(path), "CASES", {}).items():
            found[name] = (case[0], case[1])
    return found


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module

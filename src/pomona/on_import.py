"""What `import pomona` leaves behind: when transformers loads its quantizers, now or later, it learns to read packed folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_AWAITED, _NEEDS, _THEN = "transformers.quantizers.auto", "transformers.core_model_loading", "pomona.runtime.packing.quantizer"


def watch() -> None:
    """Import ours after theirs. transformers asks installed packages for nothing, and importing it here would take seconds."""
    if _AWAITED in sys.modules:
        _register()
    elif not any(isinstance(finder, _After) for finder in sys.meta_path):
        sys.meta_path.insert(0, _After())


class _After(MetaPathFinder):
    """Finds the awaited module where it is, and has ours imported behind it; then it is gone."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)
        return spec


class _Then(Loader):
    def __init__(self, theirs: Loader) -> None:
        self.theirs = theirs

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.theirs.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.theirs.exec_module(module)
        _register()


def _register() -> None:
    if find_spec(_NEEDS) is not None:  # transformers before version 5 loads tensors in another way
        import_module(_THEN)

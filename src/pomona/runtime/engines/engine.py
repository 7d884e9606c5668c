"""What an engine is: a way from the files of a model to a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

from torch import Tensor

from pomona.runtime.engines.files import Files
from pomona.vocabulary import InputError

Call: TypeAlias = Callable[[], object]
Outputs: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Running:
    """A model that an engine has read from a file of `nbytes` bytes.

    `call` is one pass on the example inputs, `outputs` what it gives for others of the same shapes: the first `first` of the
    model's own outputs (None: all). `reads` and `operations` are the bytes of weights that a pass reads and the float32
    operations that it cannot do without (two a product); None where they are those of the dense model. What is not `timed` is a
    file without an engine here.
    """

    call: Call
    outputs: Outputs
    nbytes: int
    first: int | None = None
    reads: int | None = None
    operations: float | None = None
    int8: bool = False
    timed: bool = True
    note: str = ""


@dataclass(frozen=True)
class Engine:
    """`dense` ones multiply zeros as well. `packages` must be there; `extra` is Pomona's extra that brings them."""

    name: str
    run: Callable[[Files], Running]
    dense: bool = True
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def installed(self) -> bool:
        """Whether its packages are there."""
        return all(find_spec(name) is not None for name in self.packages)

    def opened(self, files: Files) -> Running:
        """The model made ready, on as many threads as torch has now. Raises InputError where packages are missing, and whatever
        its compilers and exporters raise.
        """
        if not self.installed:
            raise InputError(f"not installed: pip install 'pomona[{self.extra}]'")
        return self.run(files)

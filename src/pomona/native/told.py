"""What a kernel has been told about a weight: once, so that a call of a small layer takes few microseconds."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from pomona.native.library import Library, library
from pomona.vocabulary import InputError


class Told:
    """A C struct of addresses of the `tensors`, which it keeps alive, and the kernel that reads it.

    Nothing is checked here: whoever makes the struct has seen to it that the tensors are what the kernel reads.
    """

    arguments: ClassVar[Sequence[Any]]  # of the kernel, the struct's address first

    def __init__(self, kernel: str, struct: ctypes.Structure, tensors: Iterable[Tensor]) -> None:
        self.name, self.at = kernel, ctypes.addressof(struct)
        self._struct, self._tensors = struct, [*tensors]
        self._places = [tensor.data_ptr() for tensor in self._tensors]
        self._found: tuple[Library | None, Callable[..., int] | None] = (None, None)

    def holds(self) -> bool:
        """Whether the tensors are where they were: to share one with another process moves it."""
        return [tensor.data_ptr() for tensor in self._tensors] == self._places

    def kernel(self) -> Callable[..., int] | None:
        """The C function for the instruction set in use; None where there is none, and torch is to do it."""
        used, kernel = self._found
        if used is not library():
            used = library()
            kernel = used.kernel(self.name)
            if kernel is not None:
                kernel.argtypes = self.arguments  # type: ignore[attr-defined]
            self._found = used, kernel
        return kernel

    def refused(self, done: int, x: Tensor) -> Exception:
        """What to raise where the kernel did not return 0."""
        if done == -1:
            return MemoryError(f"There is no memory to multiply an input of shape {tuple(x.shape)} by a packed weight.")
        return InputError(f"The kernel {self.name} cannot read an input of shape {tuple(x.shape)} ({done}): is it in memory?")

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Addresses are of these tensors in this process: a copy of what holds this has None in its place, and tells anew.
        return type(None), ()


T = TypeVar("T", bound=Told)


def told_by(owner: object, tell: Callable[[], T]) -> T:
    """What `owner` keeps of what it has told, or `tell` now, where that is nothing yet or its tensors have moved."""
    kept: T | None = owner.__dict__.get("_told")
    if kept is None or not kept.holds():
        kept = owner.__dict__["_told"] = tell()  # not as an attribute: packed weights are frozen
    return kept


def tensors_of(owner: object) -> list[Tensor]:
    """The tensors among what an object consists of."""
    return [value for value in vars(owner).values() if isinstance(value, Tensor)]

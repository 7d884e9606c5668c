"""A packed weight and a bias as a kernel takes them: checked once, and then only looked at for changes."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

from torch import Tensor

from pomona.runtime.formats.addend import checked_addend
from pomona.runtime.sparse.ops import checked
from pomona.runtime.sparse.packed import Packed


class Ready:
    """What a layer keeps from call to call: `layer`, which a kernel is given, and the address of its `bias` or None.

    Raises InputError where parts or bias do not fit.
    """

    def __init__(self, packed: Packed, bias: Tensor | None) -> None:
        parts = packed.tensors()
        # Held, so that none of these can be freed and another come to lie in its place.
        self._format: Any = checked(parts, packed.about)
        self._parts, self._bias = parts, bias
        self._marks = [_mark(tensor) for tensor in (parts if bias is None else [*parts, bias])]
        self._read = None if bias is None else checked_addend(bias, self._format.shape[:1], "bias")
        self.layer: Any = self._format.layer()
        self.bias = None if self._read is None else self._read.data_ptr()

    def holds(self, parts: Mapping[str, Tensor | None], bias: Tensor | None) -> bool:
        """Whether parts and bias are the same tensors, where they were, and nobody has written to them."""
        if bias is not self._bias or not all(map(is_, self._parts, parts.values())):
            return False
        for tensor, address, version in self._marks:
            if tensor.data_ptr() != address or (version is not None and tensor._version != version):
                return False
        return True

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a copy of the layer has other tensors


def _mark(tensor: Tensor) -> tuple[Tensor, int, int | None]:
    return tensor, tensor.data_ptr(), None if tensor.is_inference() else tensor._version

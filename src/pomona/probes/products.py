"""Products with watched parameters, heard where they are made: what such a parameter reads, whatever its module is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, eq=False)
class Product:
    """One product: `rows` as given to it where the parameter is one matrix or kernel, and then `experts` is None.

    Of stacked matrices `rows` are (rows, columns) and `experts` (rows,) int64, the number of the matrix that reads each.
    `dim` is the parameter's dimension that is contracted (None for kernels), `version` that of `rows` when they were read.
    """

    rows: Tensor
    experts: Tensor | None
    dim: int | None
    version: int


@dataclass(frozen=True, eq=False)
class _Part:
    """All of a parameter, or some of its matrices: `experts` (matrices,), () for a single one, None where it is no stack."""

    name: str
    experts: Tensor | None
    dims: tuple[int, ...]  # of the parameter, for each dimension of the part


@dataclass(frozen=True, eq=False)
class _Home:
    """Memory that holds a part: the parameter's own, or that of a copy, which may be gone before the pass ends."""

    storage: StorageWeakRef
    offset: int
    layout: tuple[tuple[int, int], ...]  # (size, stride) of each dimension
    part: _Part

    def holds(self, tensor: Tensor) -> _Part | None:
        """What `tensor`, in this memory, is of the part: all of it or whole matrices, transposed or not; None where neither."""
        if self.storage.expired():  # type: ignore[no-untyped-call]
            return None
        offset, layout = int(tensor.storage_offset()) - self.offset, _layout(tensor)
        if offset == 0 and layout == self.layout:
            return self.part
        experts, stacked = self.part.experts, self.part.experts is not None and self.part.experts.dim() == 1
        matrix = self.layout[1:] if stacked else self.layout
        if len(matrix) != 2 or layout[-2:] not in (matrix, matrix[::-1]):
            return None
        dims = self.part.dims[-2:] if layout[-2:] == matrix else self.part.dims[:-3:-1]
        if not stacked or experts is None:
            return _Part(self.part.name, experts, dims) if offset == 0 and len(layout) == 2 else None
        first, rest = divmod(offset, self.layout[0][1])
        if rest:
            return None
        if len(layout) == 2:
            return _Part(self.part.name, experts[first], dims)
        if len(layout) == 3 and (layout[0][1] == self.layout[0][1] or layout[0][0] == 1):
            return _Part(self.part.name, experts[first : first + layout[0][0]], (self.part.dims[0], *dims))
        return None

    def touches(self, tensor: Tensor) -> bool:
        """Whether `tensor`, in this memory, begins within it."""
        extent = 1 + sum((size - 1) * stride for size, stride in self.layout)
        return not self.storage.expired() and 0 <= int(tensor.storage_offset()) - self.offset < extent  # type: ignore[no-untyped-call]


@dataclass
class Products(TorchFunctionMode):
    """While it is entered, products with the `parameters` are heard: `heard` by name, in order.

    Entries and views of a parameter are known by where they lie in memory; copies (another dtype, entries picked by their
    numbers) are followed. `unclear` names parameters that took part in an op whose rows are not understood.
    """

    parameters: Mapping[str, Tensor]
    heard: dict[str, list[Product]] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._homes: dict[int, list[_Home]] = {}
        for name, tensor in self.parameters.items():
            experts = torch.arange(len(tensor), device=tensor.device) if tensor.dim() == 3 else None
            self._settle(tensor, _Part(name, experts, tuple(range(tensor.dim()))))

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Hear what is asked, and do it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [*args, *kwargs.values()]
        if name in _ORDER:
            left, right = (_operand(args, kwargs, *where) for where in _ORDER[name])
            self._listen(name, left, right, given)
        elif name in _OTHERS:
            flat = [v for value in given for v in (value if isinstance(value, (list, tuple)) else (value,))]
            self.unclear |= {part.name for part in map(self._find, flat) if part}
        result = func(*args, **kwargs)
        if name in _COPIES and isinstance(result, Tensor):
            self._follow(name, given, result)
        return result

    def _settle(self, tensor: Tensor, part: _Part) -> None:
        storage = tensor.untyped_storage()
        memory = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        home = _Home(memory, int(tensor.storage_offset()), _layout(tensor), part)
        self._homes.setdefault(storage.data_ptr(), []).append(home)

    def _find(self, tensor: Any) -> _Part | None:
        found = (home.holds(tensor) for home in self._around(tensor))
        return next((part for part in found if part), None)

    def _around(self, tensor: Any) -> list[_Home]:
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.device.type == "meta":
            return []
        return self._homes.get(tensor.untyped_storage().data_ptr(), [])

    def _follow(self, name: str, given: list[Any], result: Tensor) -> None:
        """A copy of a part is a part."""
        part = self._find(given[0])
        if part is None or self._find(result) is not None:
            return
        if name not in ("__getitem__", "index_select"):
            if result.shape == given[0].shape:
                self._settle(result, part)
            return
        key, along = given[-1], 0 if name == "__getitem__" else given[1]
        if part.experts is None or part.experts.dim() != 1 or along != 0 or not isinstance(key, (Tensor, list)):
            return
        experts = part.experts[key] if torch.as_tensor(key).dim() < 2 else part.experts
        if result.shape == (*experts.shape, *given[0].shape[1:]):
            self._settle(result, _Part(part.name, experts, part.dims if experts.dim() else part.dims[1:]))

    def _listen(self, name: str, left: Any, right: Any, given: list[Any]) -> None:
        for weight, x, turned in ((right, left, False), (left, right, True)):
            part = self._find(weight)
            if part is None or not isinstance(x, Tensor):
                self.unclear |= {home.part.name for home in self._around(weight) if home.touches(weight)}
                continue
            if name.startswith("conv"):
                self._add(part.name, None if turned else x, None, None)
            elif turned:
                self._matrix(part, x.mT if x.dim() > 1 else x[None], part.dims[-1])
            elif name in _GROUPED:
                ends = next((v for v in given[2:] if isinstance(v, Tensor) and v.dim() == 1), None)
                self._grouped(part, x, ends)
            else:
                self._matrix(part, x, part.dims[-1 if name == "linear" else -2])

    def _matrix(self, part: _Part, x: Tensor, dim: int) -> None:
        experts = part.experts
        if experts is None:
            self._add(part.name, x, None, dim)
        elif experts.dim() == 0:
            rows = x.reshape(-1, x.shape[-1])
            self._add(part.name, rows, experts.expand(len(rows)), dim)
        elif x.dim() <= 3 and (x.dim() < 3 or len(x) in (1, len(experts))):
            rows = x.expand(len(experts), *x.shape[-2:])  # each matrix of the stack reads its own, or all read the same
            self._add(part.name, rows.flatten(0, 1), experts.repeat_interleave(rows.shape[1]), dim)
        else:
            self.unclear.add(part.name)

    def _grouped(self, part: _Part, x: Tensor, ends: Tensor | None) -> None:
        """Rows sorted by expert, `ends` where those of each end; what comes after the last is read by nobody."""
        if part.experts is None or part.experts.dim() != 1 or x.dim() != 2 or ends is None:
            self.unclear.add(part.name)
            return
        rows = x[: int(ends[-1])]
        which = torch.searchsorted(ends, torch.arange(len(rows), device=x.device, dtype=ends.dtype), right=True)
        self._add(part.name, rows, part.experts[which], part.dims[-2])

    def _add(self, name: str, rows: Tensor | None, experts: Tensor | None, dim: int | None) -> None:
        if rows is None:
            self.unclear.add(name)
        else:
            self.heard.setdefault(name, []).append(Product(rows, experts, dim, rows._version))


def _layout(tensor: Tensor) -> tuple[tuple[int, int], ...]:
    return tuple(zip(tensor.shape, tensor.stride(), strict=True))


def _operand(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, names: tuple[str, ...]) -> Any:
    return args[place] if place < len(args) else next((kwargs[name] for name in names if name in kwargs), None)


_LEFT, _RIGHT = ("input", "self", "mat1", "batch1"), ("other", "mat2", "weight", "batch2")
_PLAIN, _ADDED, _BACK = ((0, _LEFT), (1, _RIGHT)), ((1, _LEFT[2:]), (2, _RIGHT)), ((1, _RIGHT), (0, _LEFT))
_GROUPED = ("_grouped_mm", "grouped_mm", "grouped_mm_fallback")
_KERNELS = tuple(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))
# Where the left and the right operand of a product stand.
_ORDER = {
    **dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm", *_GROUPED, *_KERNELS), _PLAIN),
    **dict.fromkeys(("addmm", "baddbmm"), _ADDED),
    "__rmatmul__": _BACK,
}
_OTHERS = (
    "einsum",
    "tensordot",
    "bilinear",
    "addbmm",
    "mv",
    "addmv",
    "multi_head_attention_forward",
    "chain_matmul",
    "multi_dot",
)
_COPIES = (
    *("__getitem__", "index_select", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
    *("contiguous", "clone", "detach", "reshape"),
)

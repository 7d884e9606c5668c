"""Float64 weights without numbers of their own: a narrower weight lends them, and they are widened when they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pomona.native.picked import picked

LEAST = 2**20  # numbers: what is smaller costs less to copy than to widen again and again
NARROW = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(eq=False)
class _Loan:
    """What a weight and its transposed views have in common; `zeros` are the rows and columns that were set to zero.

    `own` are its numbers once something else was written to it.
    """

    lender: Tensor  # (rows, columns)
    version: int
    zeros: list[Tensor | None] = field(default_factory=lambda: [None, None])  # bool (rows,) and (columns,), None: none of them
    own: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Loan:
        own = None if self.own is None else self.own.clone()
        return _Loan(self.lender, self.version, [None if z is None else z.clone() for z in self.zeros], own)

    @property
    def void(self) -> bool:
        """Whether something was written to the lender before there were numbers of its own."""
        return self.own is None and self.lender._version != self.version

    def lent(self) -> Tensor:
        """The narrow numbers; raises RuntimeError where something was written to them in the meantime."""
        if self.void:
            raise RuntimeError("A weight was changed whose numbers a float64 copy of its model still uses.")
        return self.lender

    def silenced(self, found: Tensor, at: tuple[Tensor | None, Tensor | None] = (None, None)) -> Tensor:
        """Zeros in those rows and columns of `found`, in place, that are zero here; they are all, or those that `at` names."""
        for dim, (zeros, chosen) in enumerate(zip(self.zeros, at, strict=True)):
            if zeros is not None:
                found.index_fill_(dim, (zeros if chosen is None else zeros[chosen]).nonzero().flatten(), 0)
        return found


class Borrowed(Tensor):
    """A float64 matrix, widened from a narrower one for every op that reads it.

    What is written to it reaches only itself: rows and columns that become zero are noted; before anything else is written, and
    before a view is made of it that is not the transposed one, it gets numbers of its own. The lender must stay as it is, which
    torch's version counter of it tells: reading numbers that have changed raises RuntimeError.
    """

    loan: _Loan
    turned: bool

    @staticmethod
    def of(lender: Tensor) -> Borrowed:
        """The float64 copy of a matrix for which `lends` says yes."""
        return Borrowed(_Loan(lender.detach(), lender._version))

    def __new__(cls, loan: _Loan, turned: bool = False) -> Borrowed:
        """A tensor with the shape and the strides of the lender, or its transposed ones, and no memory."""
        shape, strides = (x[::-1] if turned else x for x in (tuple(loan.lender.shape), loan.lender.stride()))
        made: Borrowed = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, shape, strides=strides, dtype=torch.float64, device=loan.lender.device
        )
        made.loan, made.turned = loan, turned
        return made

    def __init__(self, loan: _Loan, turned: bool = False) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Borrowed:
        made = Borrowed(_copied(self.loan, memo), self.turned).requires_grad_(self.requires_grad)
        if isinstance(self, nn.Parameter):
            made._is_param = True  # type: ignore[attr-defined]
        memo[id(self)] = made
        return made  # type: ignore[return-value]

    def dense(self, keep: bool = False) -> Tensor:
        """The numbers as a tensor of the usual kind, made anew each time; `keep`: its own from now on, and its views'."""
        loan = self.loan
        found = loan.silenced(loan.lent().to(torch.float64)) if loan.own is None else loan.own
        if keep:
            loan.own = found
        return found.t() if self.turned else found

    def living(self) -> tuple[Tensor, Tensor] | None:
        """Bool (rows,) and (columns,): False where it was set to zero; None where it has numbers of its own."""
        if self.loan.own is not None:
            return None
        found = [torch.ones(n, dtype=torch.bool, device=self.device) for n in self.loan.lender.shape]
        of_rows, of_columns = (ones if z is None else ~z for ones, z in zip(found, self.loan.zeros, strict=True))
        return (of_columns, of_rows) if self.turned else (of_rows, of_columns)

    def picked(self, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """These rows and columns, as `native.picked` gives them: none but these are widened."""
        if self.turned:
            return Borrowed(self.loan).picked(columns, rows).t()
        if self.loan.own is not None:
            return picked(self.loan.own, rows, columns)
        lent = self.loan.lent()
        found = (lent if rows is None and columns is None else picked(lent, rows, columns)).to(torch.float64)
        return self.loan.silenced(found, (rows, columns))

    def widens(self, narrow: Tensor) -> bool:
        """Whether it is still the float64 copy of this very tensor; False says nothing about equal numbers elsewhere."""
        loan, there = self.loan, narrow.detach()
        still = loan.own is None and not loan.void and all(zeros is None for zeros in loan.zeros)
        one = type(there) is Tensor and there.dtype == loan.lender.dtype and there.data_ptr() == loan.lender.data_ptr()
        return still and one and (self.shape, self.stride()) == (there.shape, there.stride())

    @property
    def void(self) -> bool:
        """Whether it has lost its numbers: the lender has changed."""
        return self.loan.void

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Some ops know better than to widen all of it."""
        kwargs = kwargs or {}
        way = _WAYS.get(func)
        made = way(*args, **kwargs) if way is not None and isinstance(args[0], Borrowed) else None
        return _densely(func, args, kwargs) if made is None else made


def lends(x: Tensor) -> bool:
    """Whether a tensor is a big matrix in less than float64, and plain enough to lend its numbers."""
    plain = type(x) in (Tensor, nn.Parameter) and x.dim() == 2 and x.dtype in NARROW and x.layout == torch.strided
    return plain and x.numel() >= LEAST and x.is_contiguous() and not x.is_inference()


def settled(tree: Any) -> Any:
    """Values in which borrowed tensors are dense ones."""
    return pytree.tree_map(lambda x: x.dense() if isinstance(x, Borrowed) else x, tree)


def _copied(loan: _Loan, memo: dict[int, Any]) -> _Loan:
    """Views of one weight are views of one copy."""
    return memo.setdefault(id(loan), loan.__deepcopy__(memo))  # type: ignore[no-any-return]


def _densely(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Any op, on dense tensors; what it writes to, or returns a view of, keeps its numbers from then on."""
    back: dict[int, Borrowed] = {}

    def dense(x: Any, shared: bool) -> Any:
        if not isinstance(x, Borrowed):
            return x
        found = x.dense(keep=shared)
        if shared:
            back[id(found)] = x
        return found

    shared = {a.name: a.alias_info is not None for a in func._schema.arguments}
    given = [pytree.tree_map(lambda x, s=s: dense(x, s), a) for a, s in zip(args, shared.values(), strict=False)]
    named = {name: pytree.tree_map(lambda x, s=shared[name]: dense(x, s), a) for name, a in kwargs.items()}
    # An op that works in place returns what it was given.
    return pytree.tree_map(lambda x: back.get(id(x), x), func(*given, **named))


def _alias(x: Borrowed) -> Borrowed:
    return Borrowed(x.loan, x.turned)


def _turned(x: Borrowed, *_: int) -> Borrowed | None:
    """The transposed view; of numbers of its own a usual one."""
    return None if x.loan.own is not None else Borrowed(x.loan, not x.turned)


def _swapped(x: Borrowed, one: int, other: int) -> Borrowed | None:
    return _turned(x) if one % 2 != other % 2 else _alias(x)


def _permuted(x: Borrowed, dims: list[int]) -> Borrowed | None:
    return _swapped(x, 0, 1) if [d % 2 for d in dims] == [1, 0] else None


def _fill(x: Borrowed, dim: int, index: Tensor, value: float) -> Borrowed | None:
    """Rows or columns that become zero."""
    if value != 0 or x.loan.own is not None:
        return None
    dim = dim % 2 ^ x.turned
    before = x.loan.zeros[dim]
    zeros = torch.zeros(x.loan.lender.shape[dim], dtype=torch.bool, device=x.device) if before is None else before
    x.loan.zeros[dim] = zeros.index_fill_(0, index, True)
    return x


def _looked_up(x: Borrowed, index: Tensor, *rest: Any, **named: Any) -> Tensor | None:
    """Rows of a table, widened after they were looked up."""
    if x.loan.own is not None or x.turned:
        return None
    found = _ATEN.embedding.default(x.loan.lent(), index, *rest, **named).to(torch.float64)
    return x.loan.silenced(found.view(-1, x.shape[1]), (index.flatten(), None)).view(found.shape)


def _selected(x: Borrowed, dim: int, index: Tensor) -> Tensor | None:
    if x.loan.own is not None or index.dim() != 1:
        return None
    return (x.picked(index, None) if dim % 2 == 0 else x.picked(None, index)).contiguous()


_ATEN = torch.ops.aten
_WAYS: Mapping[Any, Callable[..., Any]] = {
    _ATEN.detach.default: _alias,
    _ATEN.alias.default: _alias,
    _ATEN.t.default: _turned,
    _ATEN.transpose.int: _swapped,
    _ATEN.permute.default: _permuted,
    _ATEN.index_fill_.int_Scalar: _fill,
    _ATEN.embedding.default: _looked_up,
    _ATEN.index_select.default: _selected,
}

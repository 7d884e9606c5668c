"""Forward passes in float64, whatever precision the model's own code asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pomona.graph.borrowed import Borrowed, lends, settled
from pomona.graph.draws import same_draws
from pomona.vocabulary import set_training

WIDE = {
    torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.complex64: torch.complex128,
}  # fmt: skip
COARSE = tuple(WIDE)
_CREATED = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)  # what `torch.tensor` ends with


class _Widen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Casts to a coarser float become casts to float64: a rounding in the middle would hide an error of coupling."""

    supports_higher_order_operators = True  # branches of torch.cond come in here as well

    def __init__(self, shorter: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shorter = shorter
        self.ops = 0  # how far a forward pass came

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops += 1
        if func is torch.ops.aten._assert_tensor_metadata.default:
            return None
        if func is torch.ops.aten._grouped_mm.default and args[0].dtype == torch.float64:
            return _grouped(*args, **(kwargs or {}))
        if isinstance(func, HigherOrderOperator):  # torch.cond takes none but the usual tensors
            args = settled(args)
        widened = (*map(_wider, args),), {name: _wider(value) for name, value in (kwargs or {}).items()}
        made = self.shorter[func](*widened[0], **widened[1]) if func in self.shorter else None
        made = func(*widened[0], **widened[1]) if made is None else made
        return made.to(WIDE[made.dtype]) if func in _CREATED and made.dtype in COARSE else made


def _grouped(
    x: Tensor, experts: Tensor, offs: Tensor, bias: Tensor | None = None, out_dtype: torch.dtype | None = None
) -> Tensor:
    """Tokens sorted by expert, (tokens, in), against (experts, in, out); `offs` says where each expert's share ends.

    Torch has no float64 kernel for it.
    """
    out = x.new_zeros(len(x), experts.shape[-1])
    start = 0
    for number, stop in enumerate(offs.tolist()):
        out[start:stop] = x[start:stop] @ experts[number]
        start = stop
    return out if bias is None else out + bias


@contextmanager
def precisely(shorter: Mapping[Any, Callable[..., Any]] = MappingProxyType({})) -> Iterator[_Widen]:
    """Within it nothing is computed or created in less than float64, and random numbers are the same each time.

    Yields a counter of operations. `shorter` has for some ops what computes the same in less time, or gives None where it cannot.
    """
    default, fast = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    torch.set_default_dtype(torch.float64)
    torch.backends.mha.set_fastpath_enabled(False)  # it answers with zeros where a batch is padded
    try:
        with torch.no_grad(), same_draws(), _Widen(shorter) as mode:
            yield mode
    finally:
        torch.set_default_dtype(default)
        torch.backends.mha.set_fastpath_enabled(fast)


def precise(model: nn.Module, borrow: bool = False) -> nn.Module:
    """A float64 copy of a model in evaluation mode.

    `borrow`: its big matrices have no numbers of their own, but widen those of the model whenever they are used. What is written
    to the copy stays there; the model must not change as long as the copy is run (see `Borrowed`).
    """
    # Handed over as already copied: big weights are widened once, instead of copied and then widened.
    made = {
        id(p): nn.Parameter(Borrowed.of(p) if borrow and lends(p) else _own(p), p.requires_grad)
        for p in model.parameters()
        if type(p) is nn.Parameter
    }
    copy = deepcopy(model, made | {id(b): _own(b) for b in model.buffers() if type(b) is Tensor})  # type: ignore[arg-type]
    set_training(copy, False)
    return copy._apply(wide)  # type: ignore[no-any-return, no-untyped-call]


def widened(tree: Any) -> Any:
    """Inputs with every floating-point tensor as a float64 copy and every other tensor copied (models may write to them)."""
    return pytree.tree_map(lambda x: wide(x).clone() if isinstance(x, Tensor) else x, tree)


def wide(x: Tensor) -> Tensor:
    """Float64 where it is floating point (complex numbers of two of them); whole numbers and truth values as they are."""
    return x.detach().to(torch.float64 if x.is_floating_point() else WIDE.get(x.dtype, x.dtype))


def _own(x: Tensor) -> Tensor:
    """A wide copy that shares nothing."""
    made = wide(x)
    return made.clone() if made.dtype == x.dtype else made


def _wider(value: Any) -> Any:
    return WIDE.get(value, value) if isinstance(value, torch.dtype) else value

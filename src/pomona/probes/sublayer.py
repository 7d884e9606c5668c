"""What a layer at the end of a sub-layer reads, and what is there once its output is added to what passes by."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pomona.probes.recording import main
from pomona.vocabulary import Batch, InputError, evaluating


@torch.no_grad()
def sublayer(model: nn.Module, batch: Batch, weight: str) -> tuple[Tensor, Tensor]:
    """(what the module that holds `weight` reads, its output plus the residual), of one forward pass that ends there.

    Where the output is added to nothing of its size, as behind a scale, it is returned alone. Raises InputError where the
    module is not called with a tensor.
    """
    look = _Look()
    handle = model.get_submodule(weight.rpartition(".")[0]).register_forward_hook(look.hook, with_kwargs=True)
    try:
        with suppress(_Seen), evaluating(model), look:
            model(*batch.args, **batch.kwargs)
    finally:
        handle.remove()
    if look.read is None or look.made is None:
        raise InputError(f"What {weight} reads cannot be seen, because its own module is never called with a tensor.")
    return look.read, look.made if look.sum is None else look.sum


class _Seen(BaseException):
    """There is nothing more to see in this pass. Not an Exception: what a model's own code catches must not be this."""


class _Look(TorchFunctionMode):
    """Waits for the module's output, and then for the addition that takes it in, if only through a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Tensor | None = None
        self.made: Tensor | None = None
        self.sum: Tensor | None = None

    def hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note the first call."""
        if self.made is None and isinstance(output, Tensor):
            self.read, self.made = main(args, kwargs)[1], output

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        adds = self.made is not None and getattr(func, "__name__", "").strip("_") in ("add", "iadd", "radd")
        taken = adds and len(args) > 1 and self._takes(args[0], args[1])
        result = func(*args, **(kwargs or {}))
        if taken:
            self.sum = result
            raise _Seen
        return result

    def _takes(self, *operands: Any) -> bool:
        made = self.made
        return all(isinstance(o, Tensor) and made is not None and o.numel() == made.numel() for o in operands) and any(
            made is not None and o.data_ptr() == made.data_ptr() for o in operands
        )

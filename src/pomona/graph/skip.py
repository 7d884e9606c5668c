"""A block that has been left out: its input goes on in its stead."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class PassThrough(nn.Module):
    """Returns its first tensor input in the form of the block's answer: a tensor, or a tuple that starts with it.

    The form is learnt by running the block once, on copies of its first inputs, and the block is then forgotten. It has no
    parameters, so that counts and state speak of what is left.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        # Containers read plain attributes of their blocks, such as the kind of attention.
        self.__dict__.update({k: v for k, v in vars(block).items() if not k.startswith("_")})
        self._unseen: list[nn.Module] = [block]  # in a list: not a submodule
        self._rest: tuple[Any, ...] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PassThrough:
        """Moves and casts reach the block as long as it is needed."""
        for block in self._unseen:
            block._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The first tensor among the inputs; further places of a tuple are what the block put there at first."""
        given = next(leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        if self._unseen:
            answer = _rehearse(self._unseen.pop(), args, kwargs)
            self._rest = answer[1:] if isinstance(answer, tuple) else None
        return given if self._rest is None else (given, *self._rest)


@torch.no_grad()
def _rehearse(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the block answers, with everything that it might change (caches, statistics, random state) copied before."""
    leaves, form = pytree.tree_flatten((args, kwargs))
    with _Detached():
        args, kwargs = pytree.tree_unflatten([deepcopy(leaf) for leaf in leaves], form)
    with torch.random.fork_rng(devices=[]):
        return deepcopy(block)(*args, **kwargs)


class _Detached(TorchFunctionMode):
    """Within it `deepcopy` takes tensors out of the autograd graph, which it refuses to copy: training caches hold such."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Every other function as it is."""
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        return memo.setdefault(id(tensor), tensor.detach().clone())

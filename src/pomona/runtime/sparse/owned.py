"""Tensors of a rewritten program: copies of those that it reads, and no others."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, fx


def held_tensors(module: fx.GraphModule) -> set[str]:
    """The names of the tensors that the program reads."""
    return {str(n.target) for n in module.graph.find_nodes(op="get_attr")}


def only_what_is_read(module: fx.GraphModule) -> None:
    """Drop the parameters and buffers that no op reads, and copy the rest: they were those of the model that was traced.

    A tensor of several names stays one.
    """
    held, copies = held_tensors(module), dict[int, Tensor]()
    for path, part in module.named_modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in list(store.items()):
                if tensor is None or (f"{path}.{name}" if path else name) not in held:
                    del store[name]
                    continue
                if id(tensor) not in copies:
                    copies[id(tensor)] = deepcopy(tensor)
                store[name] = copies[id(tensor)]  # type: ignore[assignment]

"""Models in a form that cannot be cut as it stands, and what to give instead."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pomona.vocabulary import InputError


def check_form(model: nn.Module) -> None:
    """Raises InputError for wrappers, and for tensors that are not there yet or that could not be copied or cut.

    A gradient hook on a parameter is refused because it would be lost with the old tensor; hooks on modules come along.
    """
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise InputError(
            "The model is wrapped by torch.compile; prune the module inside (model._orig_mod) and compile the result."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "The model is scripted by torch.jit, which fixes its code; prune the Python module that it was made from."
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise InputError(f"The model is wrapped by {type(model).__name__}; prune the module inside (model.module).")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise InputError(f"The weight {name} has no values yet; run the model once on an example first.")
        if tensor.is_meta:
            raise InputError(f"The tensor {name} lies on the meta device, which holds no values; load the weights first.")
        if tensor.is_inference():
            raise InputError(f"The tensor {name} was made in inference mode and cannot be changed; make the model outside of it.")
        if tensor._backward_hooks:
            raise InputError(f"The weight {name} has a gradient hook, which a smaller tensor would lose; remove it for now.")
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise InputError(
                    f"The tensor '{name}' of the module '{path}' is computed from parameters, as torch.nn.utils.prune and "
                    "the old weight_norm do; make it a parameter first (prune.remove, remove_weight_norm)."
                )

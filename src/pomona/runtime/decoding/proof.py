"""What was read of a model against the model itself, on a few tokens at both ends of the context."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomona.runtime.decoding.llama import Llama
from pomona.runtime.decoding.plain import Linear, Plain
from pomona.vocabulary import InputError

# A model that does something else is off by tens of percent; half precision rounds at every step.
_ALLOWED = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}


def prove(model: nn.Module, llama: Llama, context: int) -> None:
    """Raises InputError where the model's own logits are not those of what was read of it, at the first or the last positions."""
    if model.training:
        raise InputError("The model is in training mode; call .eval() on it before decoding.")
    tokens = torch.arange(6) * 7919 % len(llama.embedding)
    blocks = [{name: _exact(linear) for name, linear in block.linears.items()} for block in llama.blocks]
    allowed, name = _ALLOWED.get(next(model.parameters()).dtype, 1e-3), type(model).__name__
    for start in sorted({0, max(0, context - len(tokens))}):
        ours = Plain(llama, blocks, _exact(llama.head), start).feed(tokens, True)
        with torch.no_grad():
            places = torch.arange(start, start + len(tokens))
            theirs = model(input_ids=tokens[None], position_ids=places[None], use_cache=False).logits[0].float()
        if not theirs.isfinite().all():
            raise InputError(f"The logits of {name} are not finite; mend the model before decoding.")
        error = float((ours - theirs).norm() / theirs.norm())
        if not error <= allowed:
            where = f" at position {start} and on" if start else ""
            raise InputError(
                f"{name} computes something that decoding does not know: logits without it are {error:.2g} off{where}."
            )


def _exact(linear: nn.Linear) -> Linear:
    def run(x: Tensor) -> Tensor:
        return F.linear(x, linear.weight.detach().float(), None if linear.bias is None else linear.bias.detach().float())

    return run

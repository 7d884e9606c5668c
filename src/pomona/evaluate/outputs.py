"""Reading what a model gave: plain tensors, tuples, dicts and transformers outputs alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pomona.vocabulary import Batch, InputError, evaluating, first_line


def predictions(output: Any) -> Tensor:
    """The scores in a model's output: the tensor itself, `logits`, or the first tensor of a tuple or dict."""
    return _named(output, "logits")


def hidden(output: Any) -> Tensor:
    """The token vectors of an encoder, (batch, length, width): `last_hidden_state` or the first tensor."""
    return _named(output, "last_hidden_state")


def answer(model: nn.Module, batch: Batch) -> Any:
    """The model's output on a batch; raises InputError, with what the model said, where the two do not belong together."""
    try:
        return model(*batch.args, **batch.kwargs)
    # The user's own forward says no in its own way; here it always means that data and model do not belong together.
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        batch.check(tokens_of(model))
        raise InputError(f"The data does not fit the model: {first_line(error).rstrip('.')}.") from error


def tokens_of(model: nn.Module | None) -> int | None:
    """How many tokens a transformers model knows; None for others."""
    asked = getattr(model, "get_input_embeddings", None)
    try:
        weight = getattr(asked(), "weight", None) if asked is not None else None
    except NotImplementedError:  # a model that reads no tokens says so
        return None
    return len(weight) if isinstance(weight, Tensor) and weight.dim() == 2 else None


def batches(data: Iterable[Any]) -> Iterator[Batch]:
    """Every batch of the data; raises InputError when there is none."""
    empty = True
    for raw in data:
        empty = False
        yield Batch.of(raw).unlabelled
    if empty:
        raise InputError("The data to measure on is empty; at least one batch is needed.")


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    # Not inference_mode: tensors that a module caches meanwhile must stay usable in training.
    with evaluating(model), torch.no_grad():
        yield


def _named(output: Any, name: str) -> Tensor:
    found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    first = next((v for v in values if isinstance(v, Tensor)), None)
    if first is None:
        raise InputError(
            f"The model's output ({type(output).__name__}) holds no tensor to measure; give your own function as the test."
        )
    return first

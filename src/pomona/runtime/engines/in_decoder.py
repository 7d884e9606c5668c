"""Pomona's decoder as an engine: the logits of a whole sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pomona.runtime.decoding import Decoder
from pomona.runtime.decoding.decoder import Kind
from pomona.runtime.engines.engine import Engine, Running
from pomona.runtime.engines.files import Files
from pomona.runtime.work import operations_left
from pomona.vocabulary import InputError


def decoder(values: Kind = "f32") -> Engine:
    """Reads the model from its file of weights and packs it; a pass feeds the sequence anew, from an empty cache.

    Only logits come out, so only the model's first output is compared.
    """
    return Engine("decoder", partial(_decoder, values), dense=False)


def reads_tokens(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether these are the inputs of a language model."""
    ids = _ids(args, kwargs)
    return isinstance(ids, Tensor) and ids.dtype in (torch.int64, torch.int32) and ids.dim() == 2


def _decoder(values: Kind, files: Files) -> Running:
    tokens = _tokens(files.args, files.kwargs)
    model = files.again()
    made = Decoder(model, values, context=len(tokens), threads=torch.get_num_threads())

    def outputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        return [made.logits(_tokens(args, kwargs))[None]]

    call: Callable[[], object] = partial(made.logits, tokens)
    return Running(
        call,
        outputs,
        files.weights.stat().st_size,
        first=1,
        reads=made.bytes_per_token,
        operations=operations_left(files.model, files.args, files.kwargs),
        int8=values == "int8",
        note=f"packed to {made.bytes_per_token / 1e6:.1f} MB when opened",
    )


def _ids(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs.get("input_ids", args[0] if args else None)


def _tokens(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The one sequence that the inputs are. Raises InputError where they are more than that."""
    ids = _ids(args, kwargs)
    others = {name: value for name, value in kwargs.items() if name != "input_ids" and isinstance(value, Tensor)}
    shown = others.pop("attention_mask", None)
    if len(args) > 1 or others or not isinstance(ids, Tensor) or (shown is not None and not bool((shown == 1).all())):
        raise InputError("decoding takes token ids without padding, and nothing else")
    if len(ids) != 1:
        raise InputError(f"decoding takes one sequence at a time; these are {len(ids)}")
    return ids[0]

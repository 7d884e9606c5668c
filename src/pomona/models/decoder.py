"""What the decoder of an encoder-decoder reads: the labels, one place later."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pomona.vocabulary import InputError


def decoder_inputs(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What makes decoder_input_ids of labels, both int64 (batch, length); None for a model that is no encoder-decoder.

    The model's own way, else labels one place later behind the config's start token. Looks at no weights. Raises InputError
    where the config names no token to start with.
    """
    config: Any = getattr(model, "config", None)
    if not getattr(config, "is_encoder_decoder", False) or "decoder_input_ids" not in inspect.signature(model.forward).parameters:
        return None
    start, pad = (getattr(config, name, None) for name in ("decoder_start_token_id", "pad_token_id"))
    ways: Any = (getattr(model, name, None) for name in ("prepare_decoder_input_ids_from_labels", "_shift_right"))
    own: Callable[[Tensor], Tensor] | None = next((way for way in ways if callable(way)), None)
    if start is not None and pad is not None and own is not None:
        return own
    first = pad if start is None else start
    if first is None:
        raise InputError(
            f"The config of this {type(model).__name__} has no decoder_start_token_id, without which its decoder reads no text."
        )
    return lambda labels: _later(labels, first, first if pad is None else pad)


def _later(labels: Tensor, first: int, pad: int) -> Tensor:
    later = labels.roll(1, 1).masked_fill(labels.roll(1, 1) == -100, pad)
    later[:, 0] = first
    return later

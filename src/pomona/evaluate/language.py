"""Perplexity of language models."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pomona.evaluate.outputs import answer, batches, predictions
from pomona.evaluate.tally import Meter, Tally
from pomona.vocabulary import Batch, InputError


def perplexity(model: nn.Module, data: Iterable[Any], meter: Meter) -> Tally:
    """Exp of the mean negative log-likelihood, in nats, of every token but the first of each row of ids.

    Rows are windows without overlap, each read on its own: token t is predicted from tokens 1 to t - 1 of its window,
    so short windows give a higher number than long ones. Of an encoder-decoder, whose batches hold decoder_input_ids, it is
    that of every label, which the decoder predicts from the labels before it and all that the encoder reads: of text, the second
    half of a window from the first. Tokens that the attention mask leaves out do not count, neither do labels of -100. Sums
    are in float64.
    """
    total, count = 0.0, 0
    for batch in batches(data):
        wanted, counted = _tokens(batch)
        logits = predictions(answer(model, batch))
        if logits.dim() != 3 or logits.shape[:2] != wanted.shape:
            raise InputError(
                f"Perplexity needs a language model with logits (batch, length, vocabulary); got {tuple(logits.shape)}."
            )
        loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none")
        keep = counted.flatten()
        total += float(loss[keep].double().sum())
        count += int(keep.sum())
        meter(1, perplexity=math.exp(min(700.0, total / max(1, count))))
    if not count:
        raise InputError("The data holds no token to predict; rows need at least two tokens.")
    mean = total / count
    # Past 700 nats exp overflows; such a model is broken, and infinity says so.
    return Tally(math.exp(mean) if mean < 700 else math.inf, count)


def _tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """What each place predicts, int64 (batch, length), and which of it counts."""
    written = batch.kwargs.get("decoder_input_ids")
    read = batch.args[0] if batch.args else None
    ids = written if written is not None else batch.kwargs.get("input_ids", read)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() != 2:
        raise InputError("Perplexity needs batches of token ids: (batch, length) whole numbers, or a dict with input_ids.")
    labels = batch.target if isinstance(batch.target, Tensor) and batch.target.shape == ids.shape else None
    if written is not None and labels is not None:
        return labels, labels != -100
    mask = batch.kwargs.get("attention_mask" if written is None else "decoder_attention_mask")
    counted = mask.bool() if isinstance(mask, Tensor) else ids >= 0
    if labels is not None:
        counted = counted & (labels != -100)
    return F.pad(ids[:, 1:], (0, 1)), F.pad(counted[:, 1:], (0, 1))

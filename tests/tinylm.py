"""A small decoder that has learned something, and text of the kind that it learned: for stories that need a trained model."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

_WORDS, _LENGTH = 48, 24


def text(batches: int, seed: int, rows: int = 8) -> list[dict[str, Tensor]]:
    """Walks on a ring: each goes on by a step of its own, told by its first two words, but for a stumble now and then."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(batches):
        start, step = torch.randint(_WORDS, (rows, 1), generator=g), torch.randint(1, 6, (rows, 1), generator=g)
        ids = (start + step * torch.arange(_LENGTH)) % _WORDS
        stumbles = torch.rand(ids.shape, generator=g) < 0.05
        ids = torch.where(stumbles, torch.randint(_WORDS, ids.shape, generator=g), ids)
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids})
    return made


@cache
def trained() -> nn.Module:
    """A Llama of two layers with grouped queries, trained until it walks; a few seconds."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    config = transformers.LlamaConfig(
        **heads, hidden_size=32, intermediate_size=64, num_hidden_layers=2, vocab_size=_WORDS, max_position_embeddings=64
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for batch in text(150, seed=1):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def loss(model: Any, batches: list[dict[str, Tensor]]) -> float:
    """The mean loss of a token."""
    return float(torch.stack([model(**batch).loss for batch in batches]).mean())

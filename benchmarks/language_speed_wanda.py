"""Wanda on a random Llama of the size of SmolLM2-135M: what of the time are forward passes, and what is deciding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

import pomona
from pomona.engines import oneshot, sequential
from pomona.runtime import machine

LENGTH = 512
WAYS: dict[str, dict[str, bool]] = {
    "block by block": {"sequential": True},
    "layer by layer": {"true_sequential": True},
    "at once": {"sequential": False},
}


@dataclass
class Seconds:
    """Of the processor where one thread runs, of the clock where more do: all of it, one plain pass, scores and masks."""

    whole: float = 0.0
    forward: float = 0.0
    deciding: float = 0.0
    tokens: int = 0
    cpu: str = ""


def llama() -> torch.nn.Module:
    """134.5 M parameters, of which 106.2 M are in the linears of 30 blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def measure(tokens: int, batch: int, threads: int, way: str) -> Seconds:
    """Wanda to half of the weights, on random tokens; a plain forward pass of the blocks over the same tokens beside it."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    model = llama()
    windows = torch.randint(0, 49152, (-(-tokens // LENGTH), LENGTH), generator=torch.Generator().manual_seed(0))
    found = Seconds(tokens=windows.numel(), cpu=machine()["cpu"])
    pieces = list(windows.split(batch))
    start = clock()
    with torch.inference_mode():
        for piece in pieces:
            model.model(piece, use_cache=False)
    found.forward = clock() - start
    how: dict[str, Any] = {"method": "wanda", "goal": "sparsity=0.5", "calibrate": None, "latency": False}
    with deciding(found, clock, oneshot if way == "at once" else sequential):
        start = clock()
        pomona.prune(model, pieces[0][:1], data=pieces, **how, **WAYS[way])
        found.whole = clock() - start
    return found


@contextmanager
def deciding(found: Seconds, clock: Callable[[], float], engine: Any) -> Iterator[None]:
    """Count what the `decide` of an engine takes without what it gathers."""
    own = engine.decide

    def counted(ground: Any, action: Any, tensors: Any, alive: Any, gather: Any, *rest: Any) -> Any:
        within = 0.0

        def gathering(needs: Any) -> Any:
            nonlocal within
            start = clock()
            answer = gather(needs)
            within += clock() - start
            return answer

        start = clock()
        answer = own(ground, action, tensors, alive, gathering, *rest)
        found.deciding += clock() - start - within
        return answer

    engine.decide = counted
    try:
        yield
    finally:
        engine.decide = own

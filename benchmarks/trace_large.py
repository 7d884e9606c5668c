"""A 70B-parameter Llama traced and costed without its weights: `python -m benchmarks.trace_large [--layers 80]`.

The model stands on the meta device, where tensors have shapes and no values. Run in a process of its own, so that the peak
memory is that of tracing; it includes importing torch and transformers. One thread.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

import pomona

ALLOWED_SECONDS, ALLOWED_GIGABYTES = 120, 2.0


def llama(layers: int) -> nn.Module:
    """The shapes of Llama 3 70B: hidden 8192, 64 heads in 8 groups, intermediate 28672, vocabulary 128256."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=8192,
        num_attention_heads=64,
        num_key_value_heads=8,
        intermediate_size=28672,
        vocab_size=128256,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config).eval()


def gigabytes() -> float:
    """The most memory that this process has held, GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Trace, cost the whole and a half, and print what it took; exits 1 where that is more than allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=80)
    parser.add_argument("--tokens", type=int, default=128)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, before = llama(given.layers), gigabytes()
    start, used = time.perf_counter(), time.process_time()
    graph = pomona.trace(model, {"input_ids": torch.ones(1, given.tokens, dtype=torch.int64, device="meta")})
    traced = time.perf_counter() - start
    free = {name: axis for name, axis in graph.axes.items() if axis.frozen is None}
    whole, half = graph.costs(), graph.costs({name: (axis.size + 1) // 2 for name, axis in free.items()})
    heaviest = max(graph.macs_by_weight().items(), key=lambda pair: pair[1])
    seconds, cpu, peak = time.perf_counter() - start, time.process_time() - used, gigabytes()
    families = ", ".join(f"{count} {family}" for family, count in Counter(axis.family for axis in free.values()).items())
    print(f"{whole.params / 1e9:.1f}B parameters, {given.layers} layers; {len(free)} axes can be pruned: {families}")
    for name, costs in (("whole", whole), ("half of every axis", half)):
        print(
            f"{name}: {costs.params / 1e9:.2f}B parameters, {costs.macs / 1e12:.2f}T MACs for {given.tokens} tokens, "
            f"activations {costs.activation_bytes / 1e9:.2f} GB in all, {costs.peak_bytes / 1e9:.2f} GB at once"
        )
    print(f"most MACs by one weight: {heaviest[0]}, {heaviest[1] / 1e9:.1f}G")
    print(f"traced in {traced:.1f} s, with costs {seconds:.1f} s ({cpu:.1f} s of one core); allowed {ALLOWED_SECONDS} s")
    print(f"peak memory {peak:.2f} GB, of which {before:.2f} GB were there before tracing; allowed {ALLOWED_GIGABYTES} GB")
    sys.exit(seconds > ALLOWED_SECONDS or peak > ALLOWED_GIGABYTES)


if __name__ == "__main__":
    main()

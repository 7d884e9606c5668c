"""A Llama of 1.1B random parameters, made on disk in two shards, pruned with SparseGPT within 3 GB."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import pomona

LAYERS, HIDDEN, INNER, KEYS, WORDS = 22, 2048, 5632, 256, 32000
LIMIT = "3GB"


def shapes(layer: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one block, by name."""
    at = f"model.layers.{layer}"
    return {
        f"{at}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        f"{at}.self_attn.k_proj.weight": (KEYS, HIDDEN),
        f"{at}.self_attn.v_proj.weight": (KEYS, HIDDEN),
        f"{at}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        f"{at}.mlp.gate_proj.weight": (INNER, HIDDEN),
        f"{at}.mlp.up_proj.weight": (INNER, HIDDEN),
        f"{at}.mlp.down_proj.weight": (HIDDEN, INNER),
        f"{at}.input_layernorm.weight": (HIDDEN,),
        f"{at}.post_attention_layernorm.weight": (HIDDEN,),
    }


def make(folder: Path) -> None:
    """Write the model in float16, half of its blocks in each of two files, without ever holding more than one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    outer = {"model.embed_tokens.weight": (WORDS, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (WORDS, HIDDEN)}
    halves: list[dict[str, tuple[int, ...]]] = [dict(outer), {}]
    for layer in range(LAYERS):
        halves[2 * layer // LAYERS] |= shapes(layer)
    index, total = {}, 0
    for number, half in enumerate(halves, 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        draw = torch.Generator().manual_seed(number)
        tensors = {
            name: torch.ones(shape, dtype=torch.float16)
            if len(shape) == 1
            else (torch.randn(shape, generator=draw) * 0.02).to(torch.float16)
            for name, shape in half.items()
        }
        save_file(tensors, folder / file, {"format": "pt"})
        index |= dict.fromkeys(half, file)
        total += sum(2 * tensor.numel() for tensor in tensors.values())
    written = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(written), encoding="utf-8")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": WORDS,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def measure(folder: Path, windows: int, length: int, threads: int) -> dict[str, Any]:
    """Seconds, the measured peak, and what a look at the written files says: zeros of every linear, rows of equal counts.

    A run that was broken off goes on behind its last block, with the same folder.
    """
    torch.set_num_threads(threads)
    if not (folder / "model" / "config.json").is_file():
        make(folder / "model")
    tokens = torch.randint(0, WORDS, (windows, length), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    result = pomona.prune_folder(
        folder / "model",
        folder / "pruned",
        method="sparsegpt",
        goal="sparsity=0.5",
        data=list(tokens.split(1)),
        calibrate=None,
        max_memory=LIMIT,
        checkpoint=folder / "run",
    )
    seconds = time.perf_counter() - start
    zeros, linears = 0, 0
    for file in sorted(result.folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if name.endswith("_proj.weight"):
                    tensor = opened.get_tensor(name)
                    assert 2 * int((tensor == 0).sum()) >= tensor.numel() - 1, f"{name} is denser than half"
                    zeros, linears = zeros + int((tensor == 0).sum()), linears + tensor.numel()
    memory = result.report.memory
    return {
        "windows": windows,
        "length": length,
        "threads": threads,
        "seconds": seconds,
        "peak": memory["peak"],
        "foretold": memory["foretold"],
        "limit": memory["limit"],
        "zeros": zeros / linears,
    }

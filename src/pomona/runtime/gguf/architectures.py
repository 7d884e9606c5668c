"""Llama-like architectures as GGUF names them: which config becomes which field, and how rotary weights lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import pi
from typing import Any

import torch
from torch import Tensor

from pomona.vocabulary import InputError

# transformers model type -> GGUF architecture, and whether rotary pairs lie side by side there, not half a head apart
ARCHITECTURES: Mapping[str, tuple[str, bool]] = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
}
_LAYER = re.compile(r"(.*\.layers)\.(\d+)\.(.*)")


def architecture(config: Mapping[str, Any]) -> tuple[str, bool]:
    """The GGUF architecture of a config; raises InputError for models that are not Llama-like or use rotary variants."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InputError(f"GGUF export knows {', '.join(ARCHITECTURES)}, not the model type '{kind}'.")
    variant = _rope(config).get("rope_type", "default")
    if variant not in ("default", "linear", "llama3"):
        raise InputError(f"GGUF export knows default, linear and llama3 rotary embeddings, not '{variant}'.")
    return ARCHITECTURES[kind]


def fields(config: Mapping[str, Any]) -> dict[str, int | float]:
    """What a reader must know to build the model, under GGUF's names without the architecture in front."""
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head = head_size(config)
    rope = _rope(config)
    found: dict[str, int | float] = {
        "vocab_size": config["vocab_size"],
        "context_length": _reach(config),
        "embedding_length": width,
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": head,
        "rope.freq_base": float(rope.get("rope_theta", 10000.0)),
    }
    if rope.get("rope_type") == "linear":
        found["rope.scaling.factor"] = float(rope["factor"])
    return found


def _reach(config: Mapping[str, Any]) -> int:
    """How many positions the file is the same model for: it knows no windows, so that behind one it would be another."""
    reach: int = config["max_position_embeddings"]
    kinds, window = config.get("layer_types") or (), config.get("sliding_window")
    if window is None or (kinds and "sliding_attention" not in kinds):
        return reach
    return min(reach, int(window))


def head_size(config: Mapping[str, Any]) -> int:
    """The width of one attention head."""
    size: int = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return size


def frequency_factors(config: Mapping[str, Any]) -> Tensor | None:
    """By how much Llama 3 slows each rotary frequency, float32 (half a head,); None for the others.

    Wave lengths above the old context divided by the low factor are slowed by `factor`, those below the old context divided by
    the high factor stay, and those between are interpolated (Llama 3.1's `rope_scaling`).
    """
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    size = head_size(config)
    base = float(rope.get("rope_theta", 10000.0)) ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    low, high, factor = (float(rope[k]) for k in ("low_freq_factor", "high_freq_factor", "factor"))
    turns = rope["original_max_position_embeddings"] / (2 * pi * base)
    share = ((turns - low) / (high - low)).clamp(0, 1)
    slowed: Tensor = 1 / ((1 - share) / factor + share)
    return slowed.float()


def paired(tensor: Tensor, heads: int) -> Tensor:
    """Rows of a query or key weight (or bias) with each rotary pair side by side, head by head.

    >>> paired(torch.arange(4), heads=1)
    tensor([0, 2, 1, 3])
    """
    return tensor.view(heads, 2, len(tensor) // heads // 2, -1).transpose(1, 2).reshape(tensor.shape)


def rotary_heads(name: str, config: Mapping[str, Any]) -> int | None:
    """How many heads a tensor writes that rotary embeddings turn; None for all other tensors."""
    if ".self_attn.q_proj." in name:
        return int(config["num_attention_heads"])
    if ".self_attn.k_proj." in name:
        return int(config.get("num_key_value_heads") or config["num_attention_heads"])
    return None


def check_equal_layers(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]) -> None:
    """Raise InputError where layers differ or are not as many or as wide as the config says: GGUF has one number for all."""
    found: dict[str, tuple[str, Sequence[int]]] = {}
    numbers = set()
    for name, shape in shapes.items():
        if match := _LAYER.fullmatch(name):
            numbers.add(int(match[2]))
            first, expected = found.setdefault(match[3], (name, shape))
            if list(shape) != list(expected):
                raise InputError(
                    f"{name} is {tuple(shape)} and {first} is {tuple(expected)}; GGUF needs equal layers, so prune uniformly."
                )
    if numbers != set(range(config["num_hidden_layers"])):
        raise InputError(f"The config says {config['num_hidden_layers']} layers and the weights have {len(numbers)}.")
    size, heads = head_size(config), config["num_attention_heads"]
    wanted = {
        "self_attn.q_proj.weight": heads * size,
        "self_attn.k_proj.weight": (config.get("num_key_value_heads") or heads) * size,
        "mlp.gate_proj.weight": config["intermediate_size"],
        "input_layernorm.weight": config["hidden_size"],
    }
    for role, rows in wanted.items():
        if role not in found or found[role][1][0] != rows:
            raise InputError(f"The weights of {role} do not have the {rows} rows that the config asks for.")


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary settings, wherever this version of a config keeps them."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found.setdefault("rope_type", found.get("type", "default"))
    found.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return found

"""Tiny mixtures of experts, in folders that store every matrix of every expert by itself, as hubs do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64}


def awake(model: nn.Module) -> nn.Module:
    """With weights in the range of a trained one's."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * 1.5 / p.shape[-1] ** 0.5)
    return model.eval()


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SIZES, intermediate_size=48, num_local_experts=4, num_experts_per_tok=2)
    return awake(transformers.MixtralForCausalLM(config))


def qwen3() -> nn.Module:
    config = transformers.Qwen3MoeConfig(
        **SIZES, moe_intermediate_size=32, num_experts=12, num_experts_per_tok=2, head_dim=8, norm_topk_prob=True
    )
    return awake(transformers.Qwen3MoeForCausalLM(config))


def qwen2() -> nn.Module:
    config = transformers.Qwen2MoeConfig(
        **SIZES, moe_intermediate_size=32, shared_expert_intermediate_size=24, num_experts=5, num_experts_per_tok=2
    )
    return awake(transformers.Qwen2MoeForCausalLM(config))


def one_by_one(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model as hubs hold them: every matrix of every expert by itself, by hand."""
    swiglu = ("w1", "w3", "w2") if isinstance(model, transformers.MixtralForCausalLM) else ("gate_proj", "up_proj", "down_proj")
    found = {}
    for name, value in model.state_dict().items():
        where = name.replace(".mlp.", ".block_sparse_moe.") if swiglu[0] == "w1" else name
        place = where.removesuffix("gate_up_proj").removesuffix("down_proj")
        for number, matrix in enumerate(value if place.endswith(".experts.") else ()):
            halves = matrix.chunk(2) if where.endswith("gate_up_proj") else (matrix,)
            names = swiglu[:2] if where.endswith("gate_up_proj") else swiglu[2:]
            found |= {f"{place}{number}.{own}.weight": half.clone() for own, half in zip(names, halves, strict=True)}
        if not place.endswith(".experts."):
            found[where] = value.clone()
    return found


def folder_of(
    model: nn.Module,
    path: Path,
    dtype: torch.dtype = torch.float32,
    files: int = 2,
    change: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
) -> Path:
    """Such a folder; the tensors of a stack lie in several files. `change` is done to them before."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(path)
    tensors = {name: value.to(dtype) for name, value in one_by_one(model).items()}
    change(tensors)
    names = list(tensors)
    index = {}
    for number in range(files):
        file = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        save_file({name: tensors[name] for name in names[number::files]}, path / file, {"format": "pt"})
        index |= dict.fromkeys(names[number::files], file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}), encoding="utf-8")
    return path

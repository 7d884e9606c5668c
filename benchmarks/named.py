"""The models that benchmarks name, with random weights and one example each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pomona.models import load_model


@dataclass(frozen=True)
class Named:
    """`make` gives the model in evaluation mode and its inputs: a tensor, or a dict of keyword inputs."""

    name: str
    make: Callable[[], tuple[nn.Module, Any]]


def _timm(name: str) -> Named:
    def make() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        return load_model(f"timm:{name}").model.eval(), torch.randn(1, 3, 224, 224)

    return Named(name, make)


def _ids(length: int, vocabulary: int) -> dict[str, Any]:
    """One token is padding: where a mask hides nothing, running models leave it out and traced ones do not."""
    shown = torch.ones(1, length, dtype=torch.int64)
    shown[0, 0] = 0
    return {"input_ids": torch.randint(0, vocabulary, (1, length)), "attention_mask": shown}


def _bert() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    return BertModel(BertConfig()).eval(), _ids(64, 30522)


def _gpt2() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(use_cache=False)).eval(), _ids(64, 50257)


def _llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4}
    config = LlamaConfig(num_hidden_layers=4, hidden_size=768, intermediate_size=2048, vocab_size=8000, use_cache=False, **heads)
    return LlamaForCausalLM(config).eval(), _ids(64, 8000)


RESNET50, DENSENET121, VIT, EFFICIENTNET = map(_timm, ("resnet50", "densenet121", "vit_base_patch16_224", "efficientnet_b0"))
BERT = Named("bert-base", _bert)
CNNS = (RESNET50, DENSENET121, VIT, EFFICIENTNET)
LANGUAGE = (BERT, Named("gpt2", _gpt2), Named("llama 4 x 768", _llama))

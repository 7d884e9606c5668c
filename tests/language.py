"""Tiny transformers models of every form: causal, encoder, encoder-decoder; each with the data of a few batches."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

_WIDTH = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 64}


def ids(rows: int = 2, length: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def _tokens(seed: int) -> dict[str, Any]:
    return {"input_ids": (x := ids(seed=seed)), "attention_mask": torch.ones_like(x)}


def _pairs(seed: int) -> dict[str, Any]:
    return {**_tokens(seed), "decoder_input_ids": ids(length=7, seed=seed + 100)}


def _sounds(seed: int) -> dict[str, Any]:
    sound = torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(seed))
    return {"input_features": sound, "decoder_input_ids": ids(length=5, seed=seed)}


def _padded(seed: int) -> dict[str, Any]:
    given = _tokens(seed)
    given["attention_mask"][0, 8:] = 0
    return given


def _two_lists() -> dict[str, Any]:
    halves = {f"{half}_{name}": size for half in ("encoder", "decoder") for name, size in (("layers", 2), ("attention_heads", 4))}
    return {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 64, **halves}


def _llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_WIDTH, num_key_value_heads=2, max_position_embeddings=64))


def _gemma() -> nn.Module:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]  # masks and positions differ from layer to layer
    config = transformers.Gemma3TextConfig(**_WIDTH, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=kinds)
    return transformers.Gemma3ForCausalLM(config)


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        n_embd=32, n_layer=3, n_head=4, vocab_size=64, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config)


def _opt() -> nn.Module:
    width = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
    return transformers.OPTForCausalLM(transformers.OPTConfig(**width, word_embed_proj_dim=32, max_position_embeddings=64))


def _bert() -> nn.Module:
    return transformers.BertModel(transformers.BertConfig(**_WIDTH, max_position_embeddings=64))


def _deberta() -> nn.Module:
    """Its layers read an embedding that is never called."""
    position = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16, "position_buckets": 8}
    return transformers.DebertaV2Model(transformers.DebertaV2Config(**_WIDTH, **position, max_position_embeddings=64))


def _falcon() -> nn.Module:
    config = transformers.FalconConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, vocab_size=64)
    return transformers.FalconForCausalLM(config)


def _mamba() -> nn.Module:
    """Functions read the weights of its convolutions and of one of its linear layers."""
    size = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 3, "vocab_size": 64}
    return transformers.MambaForCausalLM(transformers.MambaConfig(**size, use_mambapy=False))


def _t5() -> nn.Module:
    config = transformers.T5Config(d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8, vocab_size=64)
    return transformers.T5ForConditionalGeneration(config)


def _bart() -> nn.Module:
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**_two_lists(), max_position_embeddings=64))


def _whisper() -> nn.Module:
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    places = {"num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 16}
    return transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**_two_lists(), **places, **tokens))


MAKERS = {
    "llama": (_llama, _tokens),
    "gemma3": (_gemma, _tokens),
    "gpt2": (_gpt2, _tokens),
    "opt": (_opt, _padded),
    "bert": (_bert, _padded),
    "deberta": (_deberta, _padded),
    "falcon": (_falcon, _tokens),
    "mamba": (_mamba, _tokens),
    "t5": (_t5, _pairs),
    "bart": (_bart, _pairs),
    "whisper": (_whisper, _sounds),
}


def model(name: str, batches: int = 3) -> tuple[nn.Module, list[dict[str, Any]]]:
    """A model in eval mode with weights in the range of a trained one's, and its data."""
    make, data = MAKERS[name]
    torch.manual_seed(0)
    made = make().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            if p.dim() == 2:
                p.copy_(torch.randn(p.shape, generator=generator) * 1.5 / p.shape[1] ** 0.5)
    return made, [data(seed) for seed in range(batches)]

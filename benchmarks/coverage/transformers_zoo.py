"""Tiny models of the transformers families, random weights: `ZOO[name]()` gives (model in evaluation mode, keyword inputs).

Hidden width, heads, head width, neurons, experts and positions differ from each other wherever a configuration lets them, so
that nothing is right by accident of equal numbers. Affine parameters and biases are random, matrices are scaled so that
signals live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Inputs: TypeAlias = dict[str, Tensor]
Build: TypeAlias = Callable[[], tuple[nn.Module, Inputs]]

WORDS = 97


def _ids(batch: int, length: int, words: int = WORDS) -> Tensor:
    return torch.randint(5, words, (batch, length), generator=torch.Generator().manual_seed(1))


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def text(batch: int = 2, length: int = 11) -> Inputs:
    """Token numbers."""
    return {"input_ids": _ids(batch, length)}


def padded(batch: int = 2, length: int = 11) -> Inputs:
    """Token numbers, the last example shorter than the others."""
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, -3:] = 0
    return {"input_ids": _ids(batch, length), "attention_mask": mask}


def pairs(batch: int = 2, length: int = 11) -> Inputs:
    """A sentence in, another out."""
    return {"input_ids": _ids(batch, length), "decoder_input_ids": _ids(batch, length - 4)}


def image(batch: int = 2, length: int = 32) -> Inputs:
    """Square pictures; `length` is their side."""
    return {"pixel_values": _noise(batch, 3, length, length)}


def captioned(batch: int = 2, length: int = 11) -> Inputs:
    """Pictures of 32 x 32 and as many sentences; the last word is the one with the highest number."""
    ids = _ids(batch, length)
    ids[:, -1] = WORDS - 1
    return {"input_ids": ids, **image(batch)}


def spectrogram(batch: int = 2, length: int = 7) -> Inputs:
    """Sound as Whisper sees it, and the words so far."""
    return {"input_features": _noise(batch, 20, 60), "decoder_input_ids": _ids(batch, length)}


def wave(batch: int = 2, length: int = 800) -> Inputs:
    """Sound as samples."""
    return {"input_values": _noise(batch, length)}


def _made(
    model: str, config: str, settings: Mapping[str, Any], inputs: Callable[..., Inputs], **parts: Mapping[str, Any]
) -> tuple[nn.Module, Inputs]:
    """One model from the names of its classes; `parts` are settings of configurations inside the configuration."""
    import transformers

    torch.manual_seed(0)
    built = getattr(transformers, model)(getattr(transformers, config)(**settings, **{k: dict(v) for k, v in parts.items()}))
    for config in (getattr(module, "config", None) for module in built.modules()):
        if hasattr(config, "use_cache"):
            config.use_cache = False  # a cache is no output that can be exported
    return awake(built), inputs()


def awake(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with random vectors and matrices of a size that lets signals live."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                # Vectors that scale start at one, all others near zero; those with a meaning of their own are left to it.
                if not name.endswith(("A_log", ".D", "dt_bias", "logit_scale", "sinks")):
                    p.copy_(
                        (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
                        + 0.2 * torch.randn(p.shape, generator=random)
                    )
            elif not name.endswith("A_log") and float(p.std()) > 0:
                p.mul_(1.2 / (p.numel() / p.shape[-2 if p.dim() == 3 else 0]) ** 0.5 / p.std())
    return model.eval()


_WORDS = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DECODER = {
    **_WORDS,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_WIDE_HEADS = {**_DECODER, "head_dim": 16}
_ENCODER = {
    "vocab_size": WORDS,
    "pad_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "num_labels": 5,
}
_EXPERTS = {**_WIDE_HEADS, "num_experts": 7, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
_VISION = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
}
_SEQ2SEQ = {
    **_WORDS,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 72,
    "decoder_start_token_id": 1,
    "max_position_embeddings": 64,
}
_CLIP = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6}


def _row(
    model: str, config: str, settings: Mapping[str, Any], inputs: Callable[..., Inputs], **parts: Mapping[str, Any]
) -> Build:
    return partial(_made, model, config, settings, inputs, **parts)


ZOO: dict[str, Build] = {
    "llama": _row("LlamaForCausalLM", "LlamaConfig", _DECODER, text),
    "mistral": _row("MistralForCausalLM", "MistralConfig", {**_WIDE_HEADS, "sliding_window": 5}, text),
    "qwen3": _row("Qwen3ForCausalLM", "Qwen3Config", _WIDE_HEADS, text),
    "gemma3": _row(
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {**_WIDE_HEADS, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
        text,
    ),
    "phi": _row("PhiForCausalLM", "PhiConfig", {**_DECODER, "num_key_value_heads": 6}, text),
    "phi3": _row("Phi3ForCausalLM", "Phi3Config", _DECODER, text),
    "gpt2": _row(
        "GPT2LMHeadModel",
        "GPT2Config",
        {**_WORDS, "n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 64, "n_inner": 80},
        text,
    ),
    "gpt_neox": _row("GPTNeoXForCausalLM", "GPTNeoXConfig", {**_ENCODER, **_WORDS}, text),
    "opt": _row(
        "OPTForCausalLM",
        "OPTConfig",
        {
            **_WORDS,
            "hidden_size": 48,
            "ffn_dim": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "max_position_embeddings": 64,
        },
        padded,
    ),
    "opt_projected": _row(
        "OPTForCausalLM",
        "OPTConfig",
        {
            **_WORDS,
            "hidden_size": 48,
            "ffn_dim": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 20,
            "do_layer_norm_before": False,
        },
        padded,
    ),
    "bloom": _row("BloomForCausalLM", "BloomConfig", {**_WORDS, "hidden_size": 48, "n_layer": 2, "n_head": 6}, padded),
    "falcon": _row(
        "FalconForCausalLM", "FalconConfig", {**_WORDS, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}, text
    ),
    "mixtral": _row(
        "MixtralForCausalLM", "MixtralConfig", {**_WIDE_HEADS, "num_local_experts": 7, "num_experts_per_tok": 2}, text
    ),
    "qwen2_moe": _row(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", {**_DECODER, **_EXPERTS, "shared_expert_intermediate_size": 56}, text
    ),
    "qwen3_moe": _row("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**_EXPERTS, "norm_topk_prob": True}, text),
    "deepseek_v3": _row(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **_DECODER,
            "num_key_value_heads": 6,
            "q_lora_rank": 28,
            "kv_lora_rank": 20,
            "qk_nope_head_dim": 12,
            "qk_rope_head_dim": 8,
            "v_head_dim": 10,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 40,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_hidden_layers": 3,
        },
        text,
    ),
    "mamba": _row(
        "MambaForCausalLM",
        "MambaConfig",
        {**_WORDS, "hidden_size": 48, "state_size": 10, "num_hidden_layers": 2, "time_step_rank": 7},
        text,
    ),
    "mamba2": _row(
        "Mamba2ForCausalLM",
        "Mamba2Config",
        {
            **_WORDS,
            "hidden_size": 48,
            "state_size": 10,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 12,
            "n_groups": 2,
            "chunk_size": 4,
        },
        text,
    ),
    "bert": _row("BertForSequenceClassification", "BertConfig", _ENCODER, padded),
    "roberta": _row("RobertaForSequenceClassification", "RobertaConfig", _ENCODER, padded),
    "electra": _row("ElectraForSequenceClassification", "ElectraConfig", {**_ENCODER, "embedding_size": 28}, padded),
    "albert": _row("AlbertForSequenceClassification", "AlbertConfig", {**_ENCODER, "embedding_size": 28}, padded),
    "distilbert": _row(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {
            "vocab_size": WORDS,
            "dim": 48,
            "hidden_dim": 80,
            "n_layers": 2,
            "n_heads": 6,
            "max_position_embeddings": 64,
            "num_labels": 5,
        },
        padded,
    ),
    "mpnet": _row("MPNetForSequenceClassification", "MPNetConfig", {**_ENCODER, "pad_token_id": 1}, padded),
    "modernbert": _row(
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        {**_ENCODER, **_WORDS, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 6, "global_attn_every_n_layers": 2},
        padded,
    ),
    "deberta": _row(
        "DebertaForSequenceClassification",
        "DebertaConfig",
        {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 9},
        padded,
    ),
    "deberta_v2": _row(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {
            **_ENCODER,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 6,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
        padded,
    ),
    "t5": _row(
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": WORDS,
            "d_model": 48,
            "d_kv": 16,
            "d_ff": 80,
            "num_layers": 2,
            "num_heads": 6,
            "relative_attention_num_buckets": 10,
            "relative_attention_max_distance": 20,
            "decoder_start_token_id": 0,
            "feed_forward_proj": "gated-gelu",
        },
        pairs,
    ),
    "bart": _row("BartForConditionalGeneration", "BartConfig", _SEQ2SEQ, pairs),
    "vit": _row("ViTForImageClassification", "ViTConfig", _VISION, image),
    "deit": _row("DeiTForImageClassification", "DeiTConfig", _VISION, image),
    "dinov2": _row("Dinov2ForImageClassification", "Dinov2Config", {**_VISION, "mlp_ratio": 2}, image),
    "swin": _row(
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 24,
            "depths": [2, 2],
            "num_heads": [2, 6],
            "window_size": 4,
            "mlp_ratio": 3.0,
            "num_labels": 5,
        },
        image,
    ),
    "segformer": _row(
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {
            "num_encoder_blocks": 2,
            "depths": [2, 2],
            "sr_ratios": [2, 1],
            "hidden_sizes": [24, 48],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [2, 6],
            "mlp_ratios": [2, 3],
            "decoder_hidden_size": 36,
            "num_labels": 5,
        },
        image,
    ),
    "convnext": _row(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [20, 36], "depths": [2, 2], "num_stages": 2, "num_labels": 5},
        image,
    ),
    "whisper": _row(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {**_SEQ2SEQ, "num_mel_bins": 20, "max_source_positions": 30, "max_target_positions": 16},
        spectrogram,
    ),
    "wav2vec2": _row(
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        {
            **_ENCODER,
            **_WORDS,
            "conv_dim": [20, 28],
            "conv_kernel": [10, 3],
            "conv_stride": [5, 2],
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 6,
            "num_conv_pos_embedding_groups": 4,
        },
        wave,
    ),
    "clip": _row(
        "CLIPModel",
        "CLIPConfig",
        {"projection_dim": 30},
        captioned,
        text_config={
            **_CLIP,
            "vocab_size": WORDS,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={**_CLIP, "hidden_size": 60, "image_size": 32, "patch_size": 8},
    ),
}

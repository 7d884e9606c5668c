"""Flags of a configuration that give layers a bias."""

import pytest

import language
from pomona.models.flags import bias_flags

transformers = pytest.importorskip("transformers")

_SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64}


def _missing(model, *ends):
    return {f"{name[:-7]}.bias" for name, _ in model.named_parameters() if name.endswith(tuple(f"{end}.weight" for end in ends))}


def test_each_flag_brings_all_the_biases_of_its_kind():
    model, _ = language.model("llama")
    sizes, flags = bias_flags(model, _missing(model, "down_proj"))
    assert flags == ("mlp_bias",) and sizes["model.layers.2.mlp.down_proj.bias"] == 32
    assert {name.split(".")[-2] for name in sizes} == {"gate_proj", "up_proj", "down_proj"} and len(sizes) == 9
    assert bias_flags(model, _missing(model, "down_proj", "o_proj"))[1] == ("attention_bias", "mlp_bias")
    assert not model.config.mlp_bias and model.model.layers[0].mlp.down_proj.bias is None


def test_a_configuration_within_the_configuration_is_asked():
    text = transformers.LlamaConfig(**_SMALL, num_key_value_heads=1)
    seen = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=1, image_size=16, patch_size=8
    )
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(text_config=text, vision_config=seen, image_token_index=5)
    )
    sizes, flags = bias_flags(model, _missing(model, "down_proj"))
    assert flags == ("text_config.mlp_bias",) and len(sizes) == 6


@pytest.mark.parametrize(("name", "end"), [("t5", "wo"), ("llama", "norm"), ("llama", "lm_head"), ("gpt2", "c_proj")])
def test_none_where_no_flag_brings_them(name, end):
    model, _ = language.model(name)
    assert bias_flags(model, _missing(model, end)) == ({}, ())


def test_none_where_the_model_is_no_longer_what_its_configuration_says():
    model, _ = language.model("llama")
    model.config.intermediate_size = 40
    assert bias_flags(model, _missing(model, "down_proj")) == ({}, ())

"""Bytes of keys and values, held to what transformers' own cache holds."""

import pytest

import language
import pomona
import zoo
from pomona.vocabulary import InputError


def remembered(model, batch):
    """Bytes a token that the cache really takes, in one example."""
    layers = model(**batch, use_cache=True).past_key_values.layers
    tensors = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    return sum(t.numel() * t.element_size() // (t.shape[0] * t.shape[2]) for t in tensors)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "opt"])
def test_a_token_takes_what_the_cache_takes(name):
    model, data = language.model(name)
    assert pomona.trace(model, data[0]).costs().kv_bytes == remembered(model, data[0]) > 0


@pytest.mark.parametrize(
    ("name", "structure"), [("llama", None), ("gpt2", None), ("llama", "layers"), ("llama", "head-dims+kv-groups")]
)
def test_a_goal_in_keys_and_values_is_met_by_the_cache(name, structure):
    model, data = language.model(name)
    result = pomona.prune(model, data[0], structure=structure, goal="kv=0.67x", latency=False)
    assert result.report.proof.passed
    assert 0.4 * remembered(model, data[0]) < remembered(result.model, data[0]) <= 0.67 * remembered(model, data[0])
    assert result.plan.provenance["price"]["after"] == remembered(result.model, data[0])


def test_a_method_for_heads_and_neurons_leaves_the_neurons_whole():
    model, data = language.model("gpt2")
    result = pomona.prune(model, data[0], method="flap", goal="kv=0.5x", data=data, latency=False)
    assert all(name.endswith("head") for name in result.plan.sites)
    assert remembered(result.model, data[0]) == remembered(model, data[0]) / 2


def test_what_saves_no_keys_is_refused_and_so_is_a_model_without_any():
    model, data = language.model("llama")
    with pytest.raises(InputError, match="lost for nothing"):
        pomona.prune(model, data[0], structure="kv-groups+neurons", goal="kv=0.5x", latency=False)
    model, args = zoo.vgg()
    with pytest.raises(InputError, match="No fused attention"):
        pomona.prune(model, args, structure="channels", goal="kv=0.5x", latency=False)


def test_positions_of_an_encoder_are_no_features():
    model, data = language.model("whisper")
    width, number, attentions = 32, 4, (2 + 2 * 2)  # encoder layers, and decoder layers that look at both
    assert pomona.trace(model, data[0]).costs().kv_bytes == 2 * width * number * attentions

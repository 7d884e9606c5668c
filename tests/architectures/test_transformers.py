"""Families of transformers whose code takes its sizes and scales from somewhere unusual: cut by half, proven, used."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from plans import axes_plan
from pomona.face.saving import is_uniform
from pomona.graph import trace
from pomona.graph.proof import prove, require
from pomona.graph.restore import restored
from pomona.graph.surgery import realise
from pomona.vocabulary import ProofError
from zoo import tokens

transformers = pytest.importorskip("transformers")

WORDS = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "use_cache": False}
DECODER = WORDS | {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
ENCODER = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 32,
    "num_labels": 5,
}
PLACES = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
MAKE = {
    "deberta": ("DebertaForSequenceClassification", "DebertaConfig", ENCODER | PLACES | {"max_relative_positions": 9}),
    "deberta_v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config", ENCODER | PLACES | {"position_buckets": 3}),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", ENCODER),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", DECODER),
    "falcon": ("FalconForCausalLM", "FalconConfig", DECODER),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", DECODER | {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "mamba": ("MambaForCausalLM", "MambaConfig", WORDS | {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 5}),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        WORDS | {"d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_heads": 3},
    ),
}


def made(name):
    """A tiny model whose signals live, and inputs."""
    model_class, config, settings = MAKE[name]
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config)(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.2 / parameter.shape[-1] ** 0.5 / parameter.std().clamp(min=1e-3))
    inputs = {"input_ids": tokens(2, 7)}
    return model, inputs | ({"decoder_input_ids": tokens(2, 4)} if name == "t5" else {})


@pytest.mark.parametrize("name", MAKE)
def test_half_of_every_axis_leaves_an_ordinary_module(name):
    model, inputs = made(name)
    graph = trace(model, inputs)
    plan = axes_plan(graph)
    realised = realise(model, graph, plan)
    small = realised.model
    proof = require(prove(model, graph, plan, small, (), inputs))
    assert realised.form == "eager" and type(small) is type(model) and proof.sensitivity > 1e-3
    assert sum(p.numel() for p in small.parameters()) < 0.5 * sum(p.numel() for p in model.parameters())
    assert graph.shares().macs > 0.9
    longer = {word: torch.cat([ids, ids], 1)[:1] for word, ids in inputs.items()}
    assert small(**longer).logits.isfinite().all()
    twin = deepcopy(small)
    twin.load_state_dict(small.state_dict(), strict=True)
    small(**inputs).logits.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in small.parameters() if p.grad is not None)
    trace(twin, inputs)


def test_scores_keep_their_sharpness_after_training():
    """Weights that took the scale in are given back without it: the restored model answers as the small one."""
    model, inputs = made("deberta")
    graph = trace(model, inputs)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    whole = restored(model, graph, plan, small)
    assert prove(whole, graph, plan, small, (), inputs).max_error < 1e-6
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if "in_proj" in name:
                parameter.mul_(1.5)
    with pytest.raises(ProofError):
        require(prove(whole, graph, plan, small, (), inputs))


@pytest.mark.parametrize("name", ["phi3", "mixtral"])
def test_a_model_with_whole_heads_is_what_its_configuration_says(name):
    """So that `from_pretrained` opens it; head widths are part of a scale and of rotary positions, which no file says."""
    model, inputs = made(name)
    graph = trace(model, inputs)
    names = [axis.name for axis in graph.axes.values() if axis.frozen is None and axis.family != "head-dim"]
    small = realise(model, graph, axes_plan(graph, names)).model
    assert is_uniform(small, (), inputs)


def test_the_state_of_an_encoder_is_shown_as_wide_as_it_is():
    model, inputs = made("t5")
    graph = trace(model, inputs)
    plan = axes_plan(graph)
    small = realise(model, graph, plan).model
    out = small(**inputs)
    assert out.logits.shape[-1] == 40 and out.encoder_last_hidden_state.shape[-1] == 12
    assert any("narrower" in note for note in prove(model, graph, plan, small, (), inputs).notes)


def test_rows_of_a_table_that_short_inputs_do_not_reach_stay():
    """DeBERTa slices its table of relative positions by the length of the input; longer ones want the rest."""
    model, inputs = made("deberta")
    graph = trace(model, inputs)
    assert "beyond what these inputs reach" in graph.why("deberta.encoder.rel_embeddings.weight:0")

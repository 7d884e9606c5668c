import pytest
import torch
import transformers
from torch import nn

from pomona.runtime.decoding import Decoder
from pomona.vocabulary import InputError

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 64, "max_position_embeddings": 64,
}  # fmt: skip


def made(config):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def llama(**other):
    return made(transformers.LlamaConfig(**{**SIZES, **other}))


def changed(change):
    model = llama()
    change(model)
    return model


def layer_norm(model):
    model.model.layers[1].input_layernorm = nn.LayerNorm(32)


def louder(model):
    model.model.norm.forward = lambda x: 2 * x


def lower_rank(model):
    model.model.layers[0].mlp.up_proj = nn.Sequential(nn.Linear(32, 2), nn.Linear(2, 48))


def late(model):
    """Does something else from position 20 on."""
    rotary = model.model.rotary_emb
    inner = rotary.forward

    def forward(x, position_ids):
        return tuple(torch.where(position_ids[..., None] < 20, part, 2 * part) for part in inner(x, position_ids))

    rotary.forward = forward


def not_finite(model):
    model.lm_head.weight.data[3, 4] = torch.inf


def scaled(model):
    inner = model.model.layers[0].forward
    model.model.layers[0].forward = lambda x, **kw: 1.5 * inner(x, **kw)


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
REFUSED = {
    "gpt2": (lambda: made(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64)), "has no embed_tokens"),
    "gelu": (lambda: llama(hidden_act="gelu"), "layer 0 activates by GELU"),
    "experts": (lambda: made(transformers.MixtralConfig(**SIZES, num_local_experts=2)), "MLP of layer 0|Layer 0.*MixtralBlock"),
    "more norms": (lambda: made(transformers.Gemma2Config(**SIZES, head_dim=8)), "pre_feedforward_layernorm"),
    "norm about one": (lambda: made(transformers.GemmaConfig(**SIZES, head_dim=8)), "GELU|no RMSNorm"),
    "windows": (lambda: made(transformers.MistralConfig(**SIZES, sliding_window=16)), "last 16 positions only.*context=16"),
    "multipliers": (lambda: made(transformers.GraniteConfig(**SIZES, residual_multiplier=0.5)), "Granite.*does not know"),
    "rotary that grows": (lambda: llama(rope_parameters=DYNAMIC), "rotary embedding is of kind 'dynamic'"),
    "layer norm": (lambda: changed(layer_norm), r"Input_layernorm of layer 1 \(LayerNorm\) is no RMSNorm"),
    "another norm of that name": (lambda: changed(louder), r"last norm \(LlamaRMSNorm\) is no RMSNorm"),
    "factors": (lambda: changed(lower_rank), "layer 0.up_proj is a Sequential"),
    "another sum": (lambda: changed(scaled), "does not know"),
    "another sum later": (lambda: changed(late), "does not know: .* at position 26 and on"),
    "no numbers": (lambda: changed(not_finite), "logits of LlamaForCausalLM are not finite"),
    "training": (lambda: llama().train(), "training mode"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused_by_name(name):
    make, why = REFUSED[name]
    with pytest.raises(InputError, match=why) as refusal:
        Decoder(make(), context=32)
    assert str(refusal.value).count(". ") == 0


def test_queries_that_grow_are_read_as_far_as_they_do_not():
    config = transformers.Ministral3Config(**SIZES, head_dim=8)
    config.rope_parameters = {**config.rope_parameters, "original_max_position_embeddings": 16}
    model, ids = made(config).to(torch.bfloat16), torch.arange(16)
    with pytest.raises(InputError, match=r"from position 16 on.*context=16"):
        Decoder(model, context=17)
    assert Decoder(model, context=16).logits(ids).isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_float16_is_allowed_to_round_as_it_does(seed):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(**{**SIZES, "num_hidden_layers": 8, "hidden_size": 256}, initializer_range=1 / 16)
    Decoder(transformers.LlamaForCausalLM(config).eval().half(), context=64)


def test_a_window_as_long_as_the_context_is_none():
    Decoder(made(transformers.MistralConfig(**SIZES, sliding_window=16)), context=16)


def test_bad_wishes_are_refused():
    model = llama()
    for wish, why in (
        ({"context": 0}, "from 1 on"), ({"context": 65}, "made for 64"), ({"threads": 0}, "one thread"),
        ({"values": "int4"}, "int4"), ({"head": "f64"}, "f64"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=why):
            Decoder(model, **{"context": 32, **wish})


def test_half_precision_is_read_as_it_is():
    model = llama().to(torch.bfloat16)
    ids = torch.arange(20)
    wide = llama()
    wide.load_state_dict({name: tensor.float() for name, tensor in model.state_dict().items()})
    with torch.no_grad():
        wanted = wide(ids[None]).logits[0]
    torch.testing.assert_close(Decoder(model, context=32).logits(ids), wanted, rtol=1e-4, atol=1e-5)

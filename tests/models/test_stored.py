"""What a folder stores and what the model holds are told apart by transformers' own table."""

import pytest
import torch
import transformers

from experts import SIZES, folder_of, mixtral, qwen2, qwen3
from pomona.models.skeleton import skeleton
from pomona.models.stored import Stored
from pomona.shards import Shards
from pomona.vocabulary import InputError


def opened(path):
    shards = Shards.of(sorted(path.glob("*.safetensors")))
    return Stored(skeleton(path)[0], shards.places), shards


@pytest.mark.parametrize("make", [mixtral, qwen2, qwen3])
def test_stacks_are_read_out_of_single_experts_and_are_written_as_such_again(make, tmp_path):
    model = make()
    stored, shards = opened(folder_of(model, tmp_path / "dense"))
    values = {}
    for name, value in model.state_dict().items():
        made = stored.read(stored.groups[name])
        assert torch.equal(made[name], value), name
        values |= made
    assert stored.gives_back(values)
    again = stored.parted(values)
    assert again.keys() == shards.places.keys()
    assert all(torch.equal(value, shards.read(key)) for key, value in again.items())


def test_tensors_that_are_stored_as_the_model_holds_them_stay_so(tmp_path):
    model = mixtral()
    model.save_pretrained(tmp_path, save_original_format=False)
    stored, shards = opened(tmp_path)
    assert all(group.whole == name for name, group in stored.groups.items())
    assert stored.gives_back(stored.groups) and stored.parted(model.state_dict()).keys() == shards.places.keys()


def test_tensors_of_a_bare_model_and_tied_ones_are_found_by_the_name_that_is_there(tmp_path):
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=32, n_positions=8, bos_token_id=1, eos_token_id=2)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(tmp_path)
    stored, _ = opened(tmp_path)
    assert stored.groups["lm_head.weight"] is stored.groups["transformer.wte.weight"]
    assert stored.groups["lm_head.weight"].whole == "wte.weight" and stored.own["lm_head.weight"] == "transformer.wte.weight"
    assert stored.gives_back(["transformer.wte.weight"])


def drop(key):
    return lambda tensors: tensors.pop(key)


def halve(key):
    return lambda tensors: tensors.update({key: tensors[key][:8].clone()})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (mixtral, "model.layers.0.block_sparse_moe.experts.3.w1.weight"),
        (mixtral, "model.layers.1.block_sparse_moe.experts.0.w2.weight"),
        (qwen3, "model.layers.1.mlp.experts.11.up_proj.weight"),
        (qwen3, "model.layers.0.self_attn.q_proj.weight"),
    ],
)
def test_a_tensor_that_is_missing_or_cut_is_named(make, key, tmp_path):
    with pytest.raises(InputError, match=rf"no tensor {key}, .*a part is missing\.$"):
        opened(folder_of(make(), tmp_path / "less", change=drop(key)))
    with pytest.raises(InputError, match=rf"^{key} is \(8, \d+\) in the files and \(\d+, \d+\) in the model"):
        opened(folder_of(make(), tmp_path / "cut", change=halve(key)))


def test_all_experts_of_a_layer_missing_or_too_many_of_them_is_told(tmp_path):
    def none(tensors):
        for key in [key for key in tensors if "layers.1" in key and ".experts." in key]:
            del tensors[key]

    def more(tensors):
        for way in ("gate_proj", "up_proj", "down_proj"):
            tensors[f"model.layers.0.mlp.experts.5.{way}.weight"] = tensors[f"model.layers.0.mlp.experts.4.{way}.weight"].clone()

    with pytest.raises(InputError, match=r"no tensor model.layers.1.mlp.experts.0.\w+_proj.weight, of which"):
        opened(folder_of(qwen2(), tmp_path / "none", change=none))
    with pytest.raises(InputError, match=r"model.layers.0.mlp.experts.\w+ is \(6, .* in the files and \(5, "):
        opened(folder_of(qwen2(), tmp_path / "more", change=more))


def test_a_sick_expert_is_named(tmp_path):
    key = "model.layers.0.mlp.experts.7.down_proj.weight"
    stored, _ = opened(folder_of(qwen3(), tmp_path, change=lambda tensors: tensors[key].view(-1)[5:6].fill_(torch.nan)))
    with pytest.raises(InputError, match=f"{key} holds NaN"):
        stored.read(stored.groups["model.layers.0.mlp.experts.down_proj"])


@pytest.mark.parametrize("bare", [False, True])
def test_before_transformers_had_a_table_tensors_are_stored_as_the_model_holds_them(bare, tmp_path, monkeypatch):
    monkeypatch.setattr("pomona.models.conversions.find_spec", lambda name: None)
    config = transformers.LlamaConfig(**SIZES, intermediate_size=48)
    model = transformers.LlamaForCausalLM(config)
    (model.model if bare else model).save_pretrained(tmp_path)
    if bare:
        config.tie_word_embeddings, config.architectures = True, ["LlamaForCausalLM"]
        config.save_pretrained(tmp_path)
    stored, shards = opened(tmp_path)
    key = "layers.0.mlp.up_proj.weight" if bare else "model.layers.0.mlp.up_proj.weight"
    assert stored.groups["model.layers.0.mlp.up_proj.weight"].whole == key
    assert stored.gives_back({stored.own[name] for name in stored.groups})
    values = {name: stored.read(group)[name] for name, group in stored.groups.items() if stored.own[name] == name}
    assert stored.parted(values).keys() == shards.places.keys()


WIDTH = {**SIZES, "intermediate_size": 48}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
ROUTED = {"moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
OTHERS = {
    "OlmoeForCausalLM": ("OlmoeConfig", {**WIDTH, "num_experts": 4, "num_experts_per_tok": 2}),
    "PhimoeForCausalLM": ("PhimoeConfig", {**WIDTH, "num_local_experts": 4}),
    "GraniteMoeForCausalLM": ("GraniteMoeConfig", {**WIDTH, "num_local_experts": 4}),
    "DeepseekV3ForCausalLM": ("DeepseekV3Config", WIDTH | LATENT | ROUTED | {"num_key_value_heads": 4, "num_experts_per_tok": 2}),
    "ViTModel": ("ViTConfig", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_transformers_saves_in_an_older_layout_is_read_and_given_back(name, tmp_path):
    config, sizes = OTHERS[name]
    model = getattr(transformers, name)(getattr(transformers, config)(**sizes))
    model.save_pretrained(tmp_path)
    stored, _ = opened(tmp_path)
    assert any(group.whole not in group.names for group in stored.groups.values()), "nothing is renamed or joined"
    assert all(torch.equal(stored.read(group)[name], model.state_dict()[name]) for name, group in stored.groups.items())
    assert stored.gives_back(stored.groups)


def test_what_the_class_does_not_save_is_what_its_constructor_computes(tmp_path):
    config = transformers.MarianConfig(
        vocab_size=32,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=8,
        pad_token_id=1,
        decoder_start_token_id=1,
    )
    model, name = transformers.MarianMTModel(config), "model.encoder.embed_positions.weight"
    model.save_pretrained(tmp_path)
    stored, shards = opened(tmp_path)
    assert name not in shards.places and name not in stored.groups
    assert torch.equal(skeleton(tmp_path)[0].get_parameter(name), model.get_parameter(name))


def test_nan_that_nobody_reads_is_found_by_name(tmp_path):
    model = mixtral()
    with torch.no_grad():
        model.lm_head.weight[3, 2] = torch.nan
    model.save_pretrained(tmp_path)
    stored, _ = opened(tmp_path)
    stored.check(stored.groups["model.norm.weight"])
    with pytest.raises(InputError, match=r"The weight lm_head\.weight holds NaN"):
        stored.check(stored.groups["lm_head.weight"])

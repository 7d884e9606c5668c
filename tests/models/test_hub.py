import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import pomona
from pomona.models import example_inputs, load_model, rebuild
from pomona.models.source import Source
from pomona.vocabulary import InputError

transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SMALL, num_key_value_heads=1, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    ),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, vocab_size=64, num_labels=3)),
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, image_size=16, patch_size=8)),
}


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    torch.manual_seed(0)
    MODELS[request.param]().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_the_class_of_its_config_and_is_rebuilt_without_the_folder(folder):
    loaded = load_model(str(folder))
    assert loaded.source.task == json.loads((folder / "config.json").read_text())["architectures"][0]
    assert loaded.notes == () and not loaded.model.training and loaded.tokenizer is None
    args, kwargs = example_inputs(loaded.model, loaded)
    source = Source.from_json(json.loads(json.dumps(loaded.source.to_json())))
    for file in folder.iterdir():
        file.unlink()
    again = rebuild(source)
    again.load_state_dict(
        loaded.model.state_dict(), assign=True
    )  # copies lie elsewhere, and some of MKL's products round by that
    with torch.no_grad():
        assert torch.equal(again(*args, **kwargs)[0], loaded.model(*args, **kwargs)[0])


def test_half_precision_folders_become_float32(tmp_path):
    MODELS["bert"]().to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert {p.dtype for p in rebuild(loaded.source).parameters()} == {torch.float32}


def test_a_folder_without_weights_is_the_shape_of_its_model(folder):
    whole = load_model(str(folder)).model
    (folder / "model.safetensors").unlink()
    bare = load_model(str(folder))
    assert all(p.is_meta for p in bare.model.parameters()) and "no weights" in bare.notes[0]
    args, kwargs = example_inputs(bare.model, bare)
    costs, expected = pomona.trace(bare.model, args, kwargs).costs(), pomona.trace(whole, *example_inputs(whole)).costs()
    assert (costs.params, costs.macs) == (expected.params, expected.macs)
    with pytest.raises(InputError, match="meta device, which holds no values"):
        pomona.prune(bare.model, args, kwargs, goal="params=0.5x")


def test_truncated_weights_are_refused(tmp_path):
    MODELS["bert"]().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["AutoTokenizer", "os", "NoSuchModel", "BertConfig"])
def test_only_model_classes_of_transformers_are_built(tmp_path, name):
    MODELS["bert"]().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": [name]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"'{name}' is not a model class"):
        load_model(str(tmp_path))


def test_a_hub_id_that_cannot_be_looked_up_is_refused_at_once(monkeypatch):
    def unreachable(*args):
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    monkeypatch.setattr("pomona.models.hub.getproxies", dict)
    with pytest.raises(InputError, match="no folder 'nobody/nothing'"):
        load_model("nobody/nothing")


def test_missing_tensors_are_reported(tmp_path):
    net = MODELS["bert"]()
    net.save_pretrained(tmp_path, state_dict={k: v for k, v in net.state_dict().items() if not k.startswith("classifier")})
    assert "2 tensors are not in" in load_model(str(tmp_path)).notes[0]


def test_a_config_of_an_unknown_type_cannot_be_rebuilt():
    with pytest.raises(InputError, match="model type 'pear'"):
        rebuild(Source("transformers", "x", "BertModel", {"model_type": "pear"}))


def without(folder, name):
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_weight_that_is_missing_is_named_and_not_made_up(tmp_path):
    MODELS["llama"]().save_pretrained(tmp_path)
    without(tmp_path, "model.layers.0.mlp.up_proj.weight")
    with pytest.raises(InputError, match=r"model\.layers\.0\.mlp\.up_proj\.weight is not in"):
        load_model(str(tmp_path))


def test_words_without_their_table_are_refused_and_a_new_classifier_is_noted(tmp_path):
    MODELS["llama"]().save_pretrained(tmp_path / "llama")
    without(tmp_path / "llama", "lm_head.weight")
    with pytest.raises(InputError, match=r"lm_head\.weight is not in"):
        load_model(str(tmp_path / "llama"))
    MODELS["bert"]().save_pretrained(tmp_path / "bert")
    without(tmp_path / "bert", "classifier.weight")
    (note,) = load_model(str(tmp_path / "bert")).notes
    assert "classifier.weight" in note


def test_shapes_that_the_config_does_not_describe_are_told(tmp_path):
    MODELS["llama"]().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 48}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"lm_head\.weight is \(64, 16\) in .* and \(48, 16\) in the model"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("content", ["{'a': 1", "[1]", "{}"])
def test_an_index_that_cannot_be_read_is_named(tmp_path, content):
    MODELS["bert"]().save_pretrained(tmp_path, max_shard_size="5kB")
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json (is not JSON|has no weight_map)"):
        load_model(str(tmp_path))

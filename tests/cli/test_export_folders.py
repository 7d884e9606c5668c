"""`pomona export` to packed and plain folders and to GGUF, over the real thing."""

import json
from pathlib import Path

import pytest
import torch

import pomona
from pomona.cli import words
from pomona.vocabulary import InputError

transformers = pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": 48, "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 32}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **ids, num_key_value_heads=2))
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            if parameter.dim() > 1:
                parameter[parameter.abs() < parameter.abs().median()] = 0
    model.save_pretrained(tmp_path / "sparse")
    monkeypatch.chdir(tmp_path)
    return model


def test_packed_halves_and_comes_back(cli, folder):
    ran = cli("export", "sparse", "--to", "packed", "--dtype", "float16", "--max-shard", "50KB", "-o", "small", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["share"] <= 0.57
    assert len(ran.json["files"]) > 1
    assert cli("export", "small", "--to", "safetensors", "-o", "again").code == 0
    again = transformers.AutoModelForCausalLM.from_pretrained("again")
    packed = pomona.load("small")
    for name, value in folder.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half())
        assert torch.equal(packed.state_dict()[name], value.half().float())


def test_a_packed_folder_is_a_model_for_every_command(cli, folder):
    assert cli("export", "sparse", "--to", "packed", "-o", "small").code == 0
    ran = cli("prune", "small", "--structure", "neurons", "--goal", "neurons=0.5", "--no-latency", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    config = json.loads(Path("out/config.json").read_text())
    assert config["intermediate_size"] == 48
    assert "quantization_config" not in config
    assert transformers.AutoModelForCausalLM.from_pretrained("out").config.intermediate_size == 48


def test_gguf_is_written_and_told(cli, folder):
    ran = cli("export", "sparse", "--to", "gguf", "--dtype", "q8_0", "-o", "model.gguf", "--json")
    assert ran.code == 0, ran.err
    assert 0 < ran.json["max_error"] < 0.01
    assert "no tokenizer.json" in ran.err
    assert Path("model.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "--to", "packed"], "there is no folder 'nothing'"),
        (["sparse", "--to", "packd"], "did you mean 'packed'"),
        (["sparse", "--to", "packed", "--dtype", "float61"], "did you mean 'float16'"),
        (["sparse", "--to", "packed", "--dtype", "q8_0"], "'q8_0' is not a type of weights"),
        (["sparse", "--to", "packed", "--max-shard", "many"], "--max-shard 500MB"),
        (["sparse", "--to", "onnx", "--dtype", "float16"], "--dtype does not go with --to onnx"),
        (["sparse", "--to", "packed", "-o", "sparse"], "exists already"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(cli, folder, arguments, said):
    ran = cli("export", *arguments)
    assert ran.code == 2, ran.err
    assert said in ran.err.strip().splitlines()[-1]


@pytest.mark.parametrize(("text", "bytes"), [("500MB", 500_000_000), ("2 gb", 2 * 10**9), ("1.5GiB", 3 << 29), ("100B", 100)])
def test_sizes_have_units(text, bytes):
    assert words.size(text, "--max-shard") == bytes


def test_a_size_without_a_unit_is_refused():
    with pytest.raises(InputError, match="500MB"):
        words.size("500", "--max-shard")


def test_a_model_that_lost_layers_and_groups_of_heads_goes_on_in_gguf(cli, folder):
    pytest.importorskip("accelerate")  # transformers asks for it
    assert cli("prune", "sparse", "--goal", "layers=0.5,kv-groups=0.5", "--no-latency", "-o", "out").code == 0
    ran = cli("export", "out", "--to", "gguf", "--dtype", "float32", "-o", "out/small.gguf", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["max_error"] == 0
    again = transformers.AutoModelForCausalLM.from_pretrained("out", gguf_file="small.gguf", dtype=torch.float32)
    assert (again.config.num_hidden_layers, again.config.num_key_value_heads) == (1, 1)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, pomona.load("out")(ids).logits)


def test_compressed_tensors_hold_the_same_weights_in_their_own_names(cli, folder):
    from safetensors.torch import load_file

    from pomona.runtime.interchange import of_compressed_tensors

    ran = cli("export", "sparse", "--to", "compressed-tensors", "--dtype", "bfloat16", "-o", "small", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["weights"] == 14 and ran.json["share"] < 0.75  # tiny rows: their offsets weigh
    told = json.loads(Path("small/config.json").read_text())["quantization_config"]
    assert told["quant_method"] == "compressed-tensors" and told["sparsity_config"]["format"] == "sparse-bitmask"
    layer = "model.layers.0.mlp.up_proj"
    assert layer in told["sparsity_config"]["targets"] and "lm_head" in told["sparsity_config"]["ignore"]
    stored = load_file("small/model.safetensors")
    parts = {part: stored[f"{layer}.{part}"] for part in ("shape", "compressed", "bitmask", "row_offsets")}
    assert torch.equal(of_compressed_tensors(parts), folder.state_dict()[f"{layer}.weight"].bfloat16())
    assert f"{layer}.weight" not in stored and "model.norm.weight" in stored


def test_compressed_tensors_of_a_dense_folder_are_refused(cli, folder):
    transformers.LlamaForCausalLM(folder.config).save_pretrained("dense")
    ran = cli("export", "dense", "--to", "compressed-tensors", "-o", "small")
    assert ran.code == 2 and "sparse enough" in ran.err and not Path("small").exists()


def test_sparse_is_for_onnx_alone(cli, folder):
    ran = cli("export", "sparse", "--to", "packed", "--sparse", "-o", "small")
    assert ran.code == 2 and "--sparse goes with --to onnx" in ran.err


def test_compressed_tensors_of_values_that_a_type_cannot_hold_are_refused(cli, folder):
    with torch.no_grad():
        folder.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    folder.save_pretrained("large")
    ran = cli("export", "large", "--to", "compressed-tensors", "--dtype", "float16", "-o", "small")
    assert ran.code == 2 and "float16 cannot hold" in ran.err and not Path("small").exists()

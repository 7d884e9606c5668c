"""transformers opens packed folders by its own `from_pretrained` once pomona is imported, and says what is missing without it."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import pomona
from pomona.face.packing import export_folder
from pomona.runtime.packing import Checkpoint

transformers = pytest.importorskip("transformers")
pytest.importorskip("transformers.core_model_loading")

SIZES = {
    "vocab_size": 48,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def model(kind):
    torch.manual_seed(0)
    made = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, tie_word_embeddings=True)),
        "mixtral": lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES, num_local_experts=4)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=48, n_embd=64, n_layer=2, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0)
        ),
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=48, d_model=64, d_ff=96, d_kv=16, num_layers=2, num_heads=4)
        ),
        "bert": lambda: transformers.BertForMaskedLM(
            transformers.BertConfig(**{k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "bos_token_id")})
        ),
    }[kind]()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if p.dim() >= 2 and not any(word in name for word in ("emb", "wte", "wpe", "shared", "lm_head")):
                p.masked_fill_(torch.rand(p.shape, generator=g) < 0.5, 0)
    return made.eval()


def packed(tmp_path, kind, **wish):
    model(kind).half().save_pretrained(tmp_path / "plain")
    found = export_folder(tmp_path / "plain", tmp_path / "packed", packed=True, **wish)
    assert found["share"] <= 0.57
    return tmp_path / "packed"


@pytest.mark.parametrize("kind", ["llama", "mixtral", "gpt2", "t5", "bert"])
def test_from_pretrained_gives_what_the_plain_folder_gives(tmp_path, kind):
    """Tied embeddings, transposed weights, tensors that transformers merges, types that it keeps apart: as without packing."""
    folder = packed(tmp_path, kind, largest=60_000)
    plain = type(model(kind)).from_pretrained(tmp_path / "plain")
    opened, info = type(plain).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    ours, theirs = opened.state_dict(), plain.state_dict()
    assert {n: v.dtype for n, v in ours.items()} == {n: v.dtype for n, v in theirs.items()}
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(v.float(), theirs[n].float()) for n, v in pomona.load(folder).state_dict().items())


def test_what_was_opened_is_a_plain_model_that_can_be_cast_trained_and_saved(tmp_path):
    folder = packed(tmp_path, "llama")
    opened = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert opened.dtype == torch.float32
    assert not hasattr(opened.config, "quantization_config")
    ids = torch.arange(8)[None]
    opened(ids, labels=ids).loss.backward()
    assert opened.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    opened.half().save_pretrained(tmp_path / "saved")
    again = load_file(tmp_path / "saved" / "model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in load_file(tmp_path / "plain" / "model.safetensors").items())


WITHOUT_AND_WITH = """
import sys
from transformers import AutoModelForCausalLM
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[1])
except RuntimeError:
    print("refused")
assert not any(name.split(".")[0] == "pomona" for name in sys.modules)
import pomona
print(AutoModelForCausalLM.from_pretrained(sys.argv[1]).dtype)
"""


def test_without_pomona_transformers_names_it_and_loads_nothing_and_it_may_be_imported_late(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_AND_WITH, str(packed(tmp_path, "llama"))], capture_output=True, text=True, timeout=200
    )
    assert ran.stdout.split() == ["refused", "torch.float16"], ran.stderr
    assert "got pomona" in ran.stderr


def harmed(folder, change):
    for file in folder.glob("*.safetensors"):
        held = load_file(file)
        change(held)
        save_file(held, file, metadata={"format": "pt", "pomona_packed": "1"})


def test_damage_is_said_in_one_sentence_before_anything_is_loaded(tmp_path):
    folder = packed(tmp_path, "llama")
    name = Checkpoint.of(folder).packed[0]
    harmed(folder, lambda held: held.update({f"{name}_bits": held[f"{name}_bits"] ^ 1}))
    with pytest.raises(pomona.InputError, match=f"{name} is damaged"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(pomona.InputError, match="is damaged"):
        pomona.load(folder)


def test_a_config_that_promises_packed_weights_over_plain_ones_is_refused(tmp_path):
    packed(tmp_path, "llama")
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    with pytest.raises(pomona.InputError, match="no packed weights"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain")


def test_a_later_format_is_refused_by_its_number(tmp_path):
    folder = packed(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["format"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(pomona.InputError, match="format 2; this Pomona reads 1"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)


def test_the_bare_model_and_a_device_map_find_their_weights_too(tmp_path):
    """Names lose their prefix, and weights go where their parameter goes."""
    folder = packed(tmp_path, "llama", largest=60_000)
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain").state_dict()
    bare = transformers.AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, whole[f"model.{name}"]) for name, value in bare.items())
    pytest.importorskip("accelerate")  # transformers asks for it
    mapped = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu").state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in mapped.items())


PEAK = """
import re, sys, pomona, torch
from transformers import LlamaForCausalLM
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before = peak()
model = LlamaForCausalLM.from_pretrained(sys.argv[1])
print((peak() - before) / sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_takes_little_more_memory_than_the_dense_model(tmp_path):
    """All packed weights at once beside the dense ones would be more than 1.56."""
    sizes = {**SIZES, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "vocab_size": 1000}
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).half()
    with torch.no_grad():
        for parameter in made.model.layers.parameters():
            if parameter.dim() > 1:
                parameter[:, ::2] = 0
    made.save_pretrained(tmp_path / "plain")
    export_folder(tmp_path / "plain", tmp_path / "packed", packed=True)
    ran = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "packed")], capture_output=True, text=True, timeout=300)
    assert float(ran.stdout.strip().splitlines()[-1]) < 1.45, ran.stderr

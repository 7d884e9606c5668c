"""GGUF files of Llama-like folders, read back by transformers and by the gguf package; what GGUF cannot say is refused."""

import json

import pytest
import torch

from pomona.face.packing import export_folder
from pomona.runtime.gguf import export_gguf
from pomona.runtime.gguf.architectures import fields, frequency_factors, paired
from pomona.vocabulary import InputError

transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}


def made(kind, **more):
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**{**SIZES, **more})).eval()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
    return model


def folder_of(tmp_path, kind="Llama", **more):
    model = made(kind, **more)
    model.save_pretrained(tmp_path / "folder")
    return model, tmp_path / "folder"


def logits(model):
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("Llama", {}, {}),
        ("Llama", {"tie_word_embeddings": True}, {}),
        ("Mistral", {}, {}),
        ("Qwen2", {}, {}),
        ("Qwen3", {"head_dim": 128}, {}),  # transformers does not read the width of heads and takes its default
    ],
)
def test_transformers_reads_the_same_model_back(tmp_path, kind, more, told):
    pytest.importorskip("accelerate")  # transformers asks for it
    model, folder = folder_of(tmp_path, kind, **more)
    found = export_gguf(folder, folder / "model.gguf", "float32")
    assert found["max_error"] == 0
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize(("dtype", "bits", "error"), [("float16", 16, 1e-3), ("bfloat16", 16, 4e-3), ("q8_0", 8.5, 5e-3)])
def test_smaller_types_take_the_bytes_and_the_error_that_they_should(tmp_path, dtype, bits, error):
    model, folder = folder_of(tmp_path)
    found = export_gguf(folder, tmp_path / "model.gguf", dtype)
    assert 0 < found["max_error"] < error
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    up = stored["blk.0.ffn_up.weight"]
    assert up.n_bytes * 8 == up.n_elements * bits
    assert stored["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    read = torch.from_numpy(gguf.quants.dequantize(up.data, up.tensor_type).copy())
    weight = model.model.layers[0].mlp.up_proj.weight.detach()
    assert float((read - weight).abs().max()) <= found["max_error"]


@pytest.mark.parametrize(
    ("kind", "more", "reach"),
    [
        ("Mistral", {"sliding_window": 16}, 16),
        ("Mistral", {"sliding_window": None}, 32),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, 16),
        ("Qwen2", {"use_sliding_window": False, "sliding_window": 16}, 32),
        ("Llama", {}, 32),
    ],
)
def test_the_context_ends_where_a_window_begins_to_slide(kind, more, reach):
    """Files know no windows: behind one they would be another model."""
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more}).to_dict()
    assert fields(config)["context_length"] == reach


def test_packed_folders_are_read_like_plain_ones(tmp_path):
    model, folder = folder_of(tmp_path)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter[parameter.abs() < parameter.abs().median()] = 0
    model.save_pretrained(folder)
    export_folder(folder, tmp_path / "packed", packed=True)
    export_gguf(folder, tmp_path / "a.gguf", "float32")
    export_gguf(tmp_path / "packed", tmp_path / "b.gguf", "float32")
    a, b = (gguf.GGUFReader(tmp_path / name).tensors for name in ("a.gguf", "b.gguf"))
    assert {t.name: t.data.tobytes() for t in a} == {t.name: t.data.tobytes() for t in b}


def test_the_fields_say_the_small_sizes(tmp_path):
    _, folder = folder_of(tmp_path, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=32)
    export_gguf(folder, tmp_path / "model.gguf")
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    names = ("block_count", "attention.head_count", "attention.head_count_kv", "attention.key_length", "feed_forward_length")
    assert [read.get_field(f"llama.{name}").contents() for name in names] == [1, 2, 1, 32, 96]


def test_rotary_pairs_lie_side_by_side_head_by_head():
    """Two heads of four: halves (0, 1 | 2, 3) become pairs (0, 2), (1, 3)."""
    assert paired(torch.arange(8), heads=2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    weight = torch.arange(16).view(8, 2)
    assert paired(weight, heads=2)[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]


def test_llama_3s_frequencies_are_those_of_transformers(tmp_path):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(**SIZES, rope_parameters=LLAMA3)
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    assert torch.allclose(plain / frequency_factors(config.to_dict()), theirs, rtol=1e-6)
    _, folder = folder_of(tmp_path, rope_parameters=LLAMA3)
    export_gguf(folder, tmp_path / "model.gguf")
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert "rope_freqs.weight" in names


def refused(folder, path, said, dtype="float16"):
    with pytest.raises(InputError, match=said) as refusal:
        export_gguf(folder, path, dtype)
    assert "\n" not in str(refusal.value)
    assert not path.exists()
    assert not list(path.parent.glob(".*gguf*"))


def test_layers_of_unequal_widths_are_refused(tmp_path):
    model, folder = folder_of(tmp_path)
    for name in ("gate_proj", "up_proj"):
        weight = getattr(model.model.layers[1].mlp, name).weight
        weight.data = weight.data[:80].clone()
    model.model.layers[1].mlp.down_proj.weight.data = model.model.layers[1].mlp.down_proj.weight.data[:, :80].clone()
    model.save_pretrained(folder)
    refused(folder, tmp_path / "m.gguf", r"layers\.1\.mlp.* \(.*80.*equal layers")


def test_a_config_that_does_not_fit_its_weights_is_refused(tmp_path):
    _, folder = folder_of(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for field, number, said in (("num_hidden_layers", 3, "3 layers"), ("num_attention_heads", 2, "rows")):
        (folder / "config.json").write_text(json.dumps({**config, field: number}))
        refused(folder, tmp_path / "m.gguf", said)


def test_other_architectures_are_refused_by_name(tmp_path):
    transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "folder"
    )
    refused(tmp_path / "folder", tmp_path / "m.gguf", "llama, mistral, qwen2, qwen3, not the model type 'gpt2'")


def test_values_that_float16_cannot_hold_and_values_that_are_no_numbers_are_refused(tmp_path):
    model, folder = folder_of(tmp_path)
    model.lm_head.weight.data[0, 0] = 1e6
    model.save_pretrained(folder)
    refused(folder, tmp_path / "m.gguf", "lm_head.weight has values that float16 cannot hold")
    assert export_gguf(folder, tmp_path / "wide.gguf", "bfloat16")["max_error"] < 1e6 / 256
    model.lm_head.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)
    refused(folder, tmp_path / "m.gguf", "not numbers")


def test_a_folder_without_a_config_is_refused(tmp_path):
    _, folder = folder_of(tmp_path)
    (folder / "config.json").unlink()
    refused(folder, tmp_path / "m.gguf", "prune uniformly")


def test_a_file_that_is_there_is_left_alone(tmp_path):
    _, folder = folder_of(tmp_path)
    (tmp_path / "m.gguf").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        export_gguf(folder, tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_text() == "mine"


def tokenizer(folder, size=60, text="the quick brown fox jumps over the lazy dog " * 3):
    """A byte-level BPE that was learned here and has a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator([text], trainers.BpeTrainer(vocab_size=size, special_tokens=["<|end|>"]))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", bos_token="<|end|>")
    fast.chat_template = "{{ messages }}"
    fast.save_pretrained(folder)
    return fast


def test_the_tokenizer_goes_in_and_comes_back_with_its_merges(tmp_path):
    _, folder = folder_of(tmp_path)
    ours = tokenizer(folder)
    assert export_gguf(folder, folder / "model.gguf")["notes"] == []
    read = gguf.GGUFReader(folder / "model.gguf")
    field = {name: read.get_field(f"tokenizer.ggml.{name}").contents() for name in ("model", "pre", "eos_token_id", "token_type")}
    assert (field["model"], field["pre"]) == ("gpt2", "smollm")
    assert field["eos_token_id"] == ours.eos_token_id
    assert field["token_type"][ours.eos_token_id] == 3  # a control token
    assert field["token_type"][-1] == 5  # places of the embedding without a token are filled and unused
    assert len(field["token_type"]) == 64
    assert read.get_field("tokenizer.chat_template").contents() == "{{ messages }}"
    theirs = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    for text in ("the lazy fox", "quick dog jumps", "brown<|end|>over"):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"]


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    _, folder = folder_of(tmp_path)
    assert "no tokenizer.json" in export_gguf(folder, tmp_path / "m.gguf")["notes"][0]


def test_tokenizers_that_do_not_belong_are_refused(tmp_path):
    _, folder = folder_of(tmp_path)
    tokenizer(folder, size=90, text="".join(map(chr, range(33, 120))))
    refused(folder, tmp_path / "m.gguf", "64 embeddings; they do not belong together")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {}}}))
    refused(folder, tmp_path / "m.gguf", "BPE tokenizers")
    (folder / "tokenizer.json").write_text("{")
    refused(folder, tmp_path / "m.gguf", "damaged")

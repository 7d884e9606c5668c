"""Language models, their text and the disk, each broken in one way: one sentence, exit code 2, nothing half-written."""

import json
import resource
import shutil
from contextlib import contextmanager

import pytest
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import language

WORDS = [f"w{number}" for number in range(60)]
WANDA = ["--method", "wanda", "--goal", "sparsity=0.5"]
STREAMED, WHOLE = ["--max-memory", "1GB"], ["--no-latency"]
BATCHES = """
import torch
ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(0))
def padding():
    return [{"input_ids": ids, "attention_mask": mask} for mask in (torch.ones_like(ids), torch.zeros_like(ids))]
def beyond():
    return [{"input_ids": ids}, {"input_ids": ids + 40}]
def good():
    return [{"input_ids": ids}]
"""


def saved(model, folder, **how):
    model.save_pretrained(folder, **how)
    made = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0").save_pretrained(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    here = tmp_path_factory.mktemp("models")
    model = language.model("llama")[0]
    saved(model, here / "dense")
    saved(model, here / "missing", max_shard_size="20kB")
    shutil.copytree(here / "missing", here / "cut")
    shard = "model-00003-of-00007.safetensors"
    (here / "missing" / shard).unlink()
    (here / "cut" / shard).write_bytes((here / "cut" / shard).read_bytes()[:-40])
    up = model.model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        up[3] = model.model.layers[1].mlp.gate_proj.weight[3] = 1e38  # finite, but its product is not
        saved(model, here / "huge")
        up[3, 4] = float("nan")
        saved(model, here / "sick")
    small = transformers.LlamaConfig(**{**language._WIDTH, "vocab_size": 32}, num_key_value_heads=2)
    saved(transformers.LlamaForCausalLM(small), here / "foreign")
    shutil.copytree(here / "dense", here / "odd")
    config = json.loads((here / "odd/config.json").read_text())
    (here / "odd/config.json").write_text(json.dumps({**config, "num_attention_heads": 3}))
    (here / "text.txt").write_text(" ".join(WORDS[(7 * n) % 60] for n in range(700)))
    (here / "short.txt").write_text("w1 w2 w3")
    (here / "mine.py").write_text(BATCHES)
    return here


@pytest.fixture
def refused(home, monkeypatch, cli):
    monkeypatch.chdir(home)

    def attempt(*arguments, said):
        before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if "__pycache__" not in path.parts}
        ran = cli(*arguments)
        sentence = ran.err.strip().splitlines()[-1]
        assert ran.code == 2 and ran.out == "" and "Traceback" not in ran.err, ran.err
        assert all(word in sentence for word in said), sentence
        assert before == {path: path.stat().st_mtime_ns for path in home.rglob("*") if "__pycache__" not in path.parts}

    return attempt


@pytest.mark.parametrize("way", [STREAMED, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("foreign", "text.txt", ["holds the token 59 and the model knows 0 to 31", "tokenizer"]),
        ("dense", "mine.py:beyond", ["Batch 2 of the data holds the token", "0 to 63"]),
        ("dense", "short.txt", ["short.txt has 3 tokens; windows of 32 need at least 64"]),
        ("dense", "mine.py:padding", ["Batch 2 of the data is all padding"]),
        ("sick", "text.txt", ["model.layers.1.mlp.up_proj.weight holds NaN or infinity"]),
        ("huge", "text.txt", ["the input of model.layers.1.mlp.down_proj.weight NaN or infinite"]),
        ("missing", "text.txt", ["model-00003-of-00007.safetensors"]),
        ("odd", "text.txt", ["The config of 'odd' describes no model", "not a multiple"]),
        ("cut", "text.txt", ["cut/model-00003-of-00007.safetensors", "truncated"]),
    ],
)
def test_what_is_broken_is_named(way, model, data, said, refused):
    refused("prune", model, *WANDA, "--data", data, *way, "-o", "out", said=said)


@pytest.mark.parametrize("way", [STREAMED, WHOLE], ids=["streamed", "whole"])
def test_the_model_that_is_read_is_not_written_to(way, refused):
    refused("prune", "dense", *WANDA, "--data", "text.txt", *way, "-o", "dense/out", said=["dense/out lies in dense"])


def test_eval_names_the_tokenizer_that_does_not_match(refused):
    refused("eval", "foreign", "--data", "text.txt", "--length", "16", said=["the token 59", "0 to 31"])


def test_a_limit_that_cannot_be_met_is_answered_with_the_least_that_can(refused):
    said = ["10 MB of memory will not do", "at least 10", "raise --max-memory"]
    refused("prune", "dense", *WANDA, "--data", "text.txt", "--max-memory", "10MB", "-o", "out", said=said)


@contextmanager
def files_no_larger_than(size):
    """What the system says of a file that would be larger is what it says of a disk that is full, by another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("way", [STREAMED, WHOLE], ids=["streamed", "whole"])
def test_a_full_disk_is_told_and_nothing_is_left(way, refused):
    with files_no_larger_than(20_000):
        refused("prune", "dense", *WANDA, "--data", "mine.py:good", *way, "-o", "out", said=["The disk of", "is full"])


def test_a_checkpoint_that_finds_no_room_leaves_whole_files_only_and_the_run_goes_on(refused, cli, tmp_path):
    wish = ["prune", "dense", *WANDA, "--data", "mine.py:good", *WHOLE, "--checkpoint", tmp_path / "work"]
    with files_no_larger_than(20_000):
        refused(*wish, "-o", "out", said=[f"The disk of {tmp_path / 'work'} is full"])
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["counts.safetensors"]
    assert cli(*wish, "-o", tmp_path / "out").code == 0


@pytest.fixture(scope="module")
def mixture(home):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"num_hidden_layers": 2, "vocab_size": 64, "num_experts_per_tok": 2, "num_local_experts": 4}
    saved(transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes)), home / "mixture")
    return home


def test_a_ratio_never_empties_heads_nor_leaves_fewer_experts_than_the_router_chooses(mixture, monkeypatch, cli, tmp_path):
    monkeypatch.chdir(mixture)
    wish = ["--method", "magnitude", "--goal", "experts=0.1,heads=0.1", "--no-latency"]
    ran = cli("prune", "mixture", *wish, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    left = {site["family"]: site["after"] for site in ran.json["sites"] if site["family"] in ("expert", "head", "kv-group")}
    assert left["expert"] == 2 and min(left.values()) >= 1
    assert any(note.startswith("Held at the least that may stay") for note in ran.json["notes"])

"""The command line on a folder of a tiny language model with a tokenizer of its own: streamed and in memory."""

import shutil

import pytest
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import language

WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming")
    model, _ = language.model("llama")
    model.save_pretrained(folder / "dense", max_shard_size="20kB")
    made = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0").save_pretrained(folder / "dense")
    (folder / "text.txt").write_text(" ".join(WORDS[(7 * n) % 60] for n in range(700)))
    return folder


@pytest.fixture
def wish(home, monkeypatch):
    monkeypatch.chdir(home)
    return ["prune", "dense", "--method", "wanda", "--goal", "sparsity=0.5", "--data", "text.txt"]


def test_streamed_and_in_memory_say_and_save_the_same(wish, cli, home, tmp_path):
    streamed = cli(*wish, "--max-memory", "1GB", "-o", tmp_path / "a", "--json")
    assert streamed.code == 0, streamed.err
    assert streamed.json["memory"]["peak"] < streamed.json["memory"]["limit"] == 10**9
    assert "block by block, the 3 blocks of model.layers" in streamed.err and "At most" in streamed.err
    assert "At its peak the run took" in streamed.err
    whole = cli(*wish, "--no-latency", "-o", tmp_path / "b", "--json")
    assert whole.code == 0, whole.err
    assert whole.json["nonzeros"] == streamed.json["nonzeros"] and whole.json["proof"]["passed"]
    a, b = (transformers.LlamaForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    assert all(a[key].equal(b[key]) for key in a)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "a")("w3 w4")["input_ids"] == [3, 4]
    for folder in ("a", "b"):  # what was saved measures text by the tokenizer beside it
        told = cli("eval", tmp_path / folder, "--data", "text.txt", "--metric", "cloze", "--length", "16", "--json")
        assert told.code == 0, told.err
        assert 0 <= told.json["value"] <= 1


def test_text_is_people_read(wish, cli, tmp_path):
    ran = cli(*wish, "--max-memory", "1GB", "-o", tmp_path / "a", "--length", "32")
    assert (
        ran.code == 0
        and "remove weights" in ran.out
        and "parameters are left" in ran.out
        and "GB of memory at the peak" in ran.out
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-memory", "1GB"], "say where with --out"),
        (["--max-memory", "lots", "-o", "new"], "'lots' is no size of memory; write it like 2GB"),
        (["--max-memory", "20MB", "-o", "new"], "this run takes at least"),
        (["--max-memory", "1GB", "-o", "new", "--recover", "finetune:1epochs"], "--recover needs the whole model"),
        (["--max-memory", "1GB", "-o", "new", "--length", "500"], "windows of 500 need at least 1000"),
        (["--max-memory", "1GB", "-o", "new", "--blocks", "model.leyers"], "did you mean model.layers"),
        (["--max-memory", "1GB", "-o", "new", "--structure", "heads"], "prune weights, blocks of them or 2:4"),
    ],
)
def test_what_cannot_be_is_refused(options, said, wish, cli, home):
    ran = cli(*wish, *options)
    assert ran.code == 2 and said in ran.err, ran.err
    assert not (home / "new").exists()


def test_measuring_on_what_was_calibrated_on_needs_to_be_asked_for(wish, cli, home):
    (home / "again.txt").write_text((home / "text.txt").read_text()[400:])
    ran = cli(*wish, "--test", "again.txt", "--no-latency", "--length", "32")
    assert ran.code == 2 and "hold passages of text.txt" in ran.err
    assert cli(*wish, "--test", "again.txt", "--no-latency", "--length", "32", "--overlap").code == 0


def test_a_random_sample_streams_and_its_size_is_calibrate(wish, cli, tmp_path):
    told = {}
    for name, more in {
        "a": ["--seed", "1"],
        "b": ["--seed", "1", "--max-memory", "1GB"],
        "c": ["--seed", "2"],
        "d": ["--seed", "1", "--calibrate", "3"],
    }.items():
        options = ["--sample", "random", "--length", "24", "--no-latency", "-o", tmp_path / name, "--json"]
        ran = cli(*wish, *[o for o in options if o != "--no-latency" or "--max-memory" not in more], *more)
        assert ran.code == 0, ran.err
        told[name] = [block["error"] for block in ran.json["blocks"]]
    assert told["a"] == pytest.approx(told["b"], rel=1e-4) and told["a"] != told["c"] and told["a"] != told["d"]
    ran = cli(*wish, "--sample", "randomly", "-o", tmp_path / "e")
    assert ran.code == 2 and "did you mean 'random'" in ran.err


@pytest.mark.parametrize("way", [["--max-memory", "1GB"], ["--no-latency"]], ids=["streamed", "whole"])
def test_what_the_text_never_reached_is_said_and_the_page_shows_what_layers_lost(way, wish, cli, tmp_path):
    model = transformers.LlamaForCausalLM.from_pretrained("dense")
    with torch.no_grad():
        model.model.layers[1].mlp.gate_proj.weight[:3] = 0  # three neurons that never fire
    model.save_pretrained(tmp_path / "silent")
    shutil.copy("dense/tokenizer.json", tmp_path / "silent")
    shutil.copy("dense/tokenizer_config.json", tmp_path / "silent")
    wish = ["prune", tmp_path / "silent", "--method", "sparsegpt", *wish[4:]]
    ran = cli(*wish, *way, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    said = "Zero in all of the calibration data, so weights on them were judged by nothing: 3 of 48 inputs of model.layers.1.mlp"
    assert said in ran.err and [note for note in ran.json["notes"] if note.startswith(said)]
    assert all(0 < site["error"] < 1 for site in ran.json["sites"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Layer by layer" in page and "model.layers.2" in page

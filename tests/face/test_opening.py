"""A model by its name: what the command line takes, Python takes."""

import shutil

import pytest
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn

import language
import pomona
from pomona.cli.app import run
from pomona.models import load_model
from pomona.vocabulary import InputError

WORDS = [f"w{number}" for number in range(60)]
WISH = {"method": "wanda", "goal": "sparsity=0.5"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opening")
    model, _ = language.model("llama")
    model.save_pretrained(folder / "dense")
    made = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0").save_pretrained(folder / "dense")
    (folder / "text.txt").write_text(" ".join(WORDS[(7 * n) % 60] for n in range(700)))
    return folder


def weights(folder):
    return transformers.LlamaForCausalLM.from_pretrained(folder).state_dict()


def test_python_and_the_command_line_prune_a_folder_alike(home, tmp_path):
    data = str(home / "text.txt")
    result = pomona.prune(home / "dense", data=data, latency=False, **WISH)
    assert result.report.quality.metric == "perplexity" and result.source.value == str(home / "dense")
    plan = pomona.plan(str(home / "dense"), data=data, **WISH)
    assert all(torch.equal(plan.keep(site), result.plan.keep(site)) for site in plan.sites)
    result.save(tmp_path / "a")
    pomona.prune_folder(home / "dense", tmp_path / "b", data=data, **WISH)
    wish = ["--method", "wanda", "--goal", "sparsity=0.5", "--data", data, "--no-latency"]
    assert run(["prune", str(home / "dense"), *wish, "-o", str(tmp_path / "c")]) == 0
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) and torch.equal(a[key], c[key]) for key in a)


def test_text_that_was_calibrated_on_is_not_measured_on_unless_asked(home, tmp_path):
    words = (home / "text.txt").read_text().split()
    (tmp_path / "again.txt").write_text(" ".join([*words[300:], *words[:300]]))
    wish = {"data": str(home / "text.txt"), "test": str(tmp_path / "again.txt"), "latency": False, **WISH}
    with pytest.raises(InputError, match=r"hold passages of .*overlap=True"):
        pomona.prune(home / "dense", **wish)
    assert pomona.prune(home / "dense", **wish, overlap=True).report.quality.examples > 0


@pytest.mark.parametrize("name", ["gpt2", "opt"])
@pytest.mark.parametrize("way", [["--no-latency"], ["--max-memory", "1GB"]])
def test_windows_longer_than_a_table_of_positions_are_refused(name, way, home, tmp_path, capsys):
    model = language.model(name)[0]
    model.save_pretrained(tmp_path / "dense")
    for file in (home / "dense").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "dense")
    reach = model.config.max_position_embeddings
    wish = ["--method", "wanda", "--goal", "sparsity=0.5", "--data", str(home / "text.txt"), "--length", str(reach + 1)]
    assert run(["prune", str(tmp_path / "dense"), *wish, *way, "-o", str(tmp_path / "out")]) == 2
    assert f"knows {reach} positions, so windows of {reach + 1} tokens are too long" in capsys.readouterr().err


def test_encoder_decoders_are_pruned_on_text_whole_and_streamed_alike(home, tmp_path):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    config = transformers.T5Config(vocab_size=64, decoder_start_token_id=0, pad_token_id=0, **sizes)
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "dense")
    for file in (home / "dense").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "dense")
    data, wish = str(home / "text.txt"), ["--method", "wanda", "--goal", "sparsity=0.5", "--length", "16"]
    for name, way in {"a": ["--no-latency"], "b": ["--max-memory", "1GB"]}.items():
        assert run(["prune", str(tmp_path / "dense"), *wish, "--data", data, *way, "-o", str(tmp_path / name)]) == 0
    a, b = (transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert run(["eval", str(tmp_path / "a"), "--data", data, "--length", "16"]) == 0
    own = [{"input_ids": language.ids(), "labels": language.ids(length=5, seed=1)}]
    inputs = {"input_ids": language.ids(), "decoder_input_ids": language.ids(length=5)}
    assert pomona.prune(model, (), inputs, data=own, test=own, metric="perplexity", latency=False, **WISH).report.proof.passed


def test_what_was_pruned_is_pruned_again_by_its_folder(home, tmp_path):
    pomona.prune(home / "dense", goal="neurons=0.5", latency=False).save(tmp_path / "once")
    twice = pomona.prune(tmp_path / "once", method="magnitude", goal="sparsity=0.5", latency=False)
    assert twice.report.nonzeros["after"] < 0.7 * twice.report.nonzeros["before"]


def test_any_name_of_a_model_will_do_and_inputs_that_are_given_win(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    result = pomona.prune("nets.py:net", torch.randn(3, 4), goal="params=0.5x", structure="neurons", latency=False)
    assert result.model[0].out_features < 8 and result.args[0].shape == (3, 4)
    with pytest.raises(InputError, match="The shape of this model's input is not known"):
        pomona.prune("nets.py:net", goal="params=0.5x", latency=False)
    with pytest.raises(InputError, match="There is no model 'nothing'"):
        pomona.prune("nothing", goal="params=0.5x")


def test_named_data_need_a_named_model(home):
    with pytest.raises(InputError, match="where the model is named as well"):
        pomona.prune(nn.Linear(2, 2), torch.ones(1, 2), data=str(home / "text.txt"), **WISH)
    model = load_model(str(home / "dense")).model
    with pytest.raises(InputError, match="where the model is named as well"):
        pomona.plan(model, {"input_ids": language.ids()}, data="lee-text", **WISH)

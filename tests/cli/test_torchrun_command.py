"""`torchrun -m pomona prune`: the command line in several processes, started by torch's own launcher and by hand."""

import json
import subprocess
import sys

import pytest
import tokenizers
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import language
from launched import launch

WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    language.model("llama")[0].save_pretrained(folder / "dense", max_shard_size="20kB")
    made = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0").save_pretrained(folder / "dense")
    (folder / "text.txt").write_text(" ".join(WORDS[(7 * n) % 60] for n in range(700)))
    return folder


WISH = ["prune", "dense", "--goal", "sparsity=0.5", "--data", "text.txt", "--length", "16", "--json"]


def test_a_refusal_is_told_once_and_all_leave_with_two(home):
    ended = launch(["-m", "pomona", *WISH, "--method", "wandaa", "-o", "out"], cwd=home)
    assert [one.code for one in ended] == [2, 2]
    told = [one for one in ended if one.out]
    assert len(told) == 1 and json.loads(told[0].out)["error"].endswith("did you mean 'wanda'?")
    assert sum(one.err.count("did you mean 'wanda'?") for one in ended) == 1
    assert sorted(path.name for path in home.iterdir()) == ["dense", "text.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("way", [("--no-latency",), ("--max-memory", "1GB")])
def test_torchrun_writes_what_one_process_writes(way, home, tmp_path):
    wish = [*WISH, "--method", "sparsegpt", *way, "-o"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    two, one = (
        subprocess.run([*head, "pomona", *wish, tmp_path / out], cwd=home, capture_output=True, text=True, check=False)
        for head, out in ((launcher, "two"), ([sys.executable, "-m"], "one"))
    )
    assert two.returncode == one.returncode == 0, two.stderr + one.stderr
    assert two.stderr.count("Pruned block by block") == 1  # one process is heard
    assert json.loads(two.stdout)["nonzeros"] == json.loads(one.stdout)["nonzeros"]
    opened = [transformers.LlamaForCausalLM.from_pretrained(tmp_path / out).state_dict() for out in ("one", "two")]
    assert all(((opened[1][key] == 0) == (value == 0)).all() for key, value in opened[0].items())

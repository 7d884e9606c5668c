"""Tasks of lm-evaluation-harness: the adapter against a stand-in of it, and against itself where it is installed."""

import importlib.util
import json
import random
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn

import language
import pomona
from pomona.evaluate.choices import likelihoods
from pomona.vocabulary import Batch, InputError

WORDS = [f"w{number}" for number in range(60)]
INSTALLED = importlib.util.find_spec("lm_eval") is not None
TOLD = {  # as version 0.4.13 tells it
    "results": {
        "tiny": {"name": "tiny", "alias": "tiny", "sample_len": 12, "acc,none": 0.75, "acc_stderr,none": 0.13},
        "maths": {"alias": "maths", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": "N/A"},
    },
    "groups": {"both": {"alias": "both", "acc,none": 0.6, "acc_stderr,none": 0.1}},
    "versions": {"tiny": 1.0},
    "n-shot": {"tiny": 0},
    "higher_is_better": {"tiny": {"acc": True}},
    "n-samples": {"tiny": {"original": 12, "effective": 10}},
}


def tokenizer(**special):
    made = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0", **special)


@pytest.fixture
def harness(monkeypatch):
    """Stands in for lm_eval: remembers how it was asked, seeds everything as the real one does, and may fail."""
    asked = SimpleNamespace(calls=[], managers=[], fails=None)

    class TaskManager:
        def __init__(self, include_path=None, include_defaults=True):
            asked.managers.append((include_path, include_defaults))
            self.all_tasks = (["tiny"] if include_path else []) + (["hellaswag", "arc_easy"] if include_defaults else [])

    def simple_evaluate(model, **how):
        random.seed(0), np.random.seed(1), torch.manual_seed(2)
        asked.calls.append((model, how))
        if asked.fails:
            raise asked.fails
        return TOLD

    modules = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.tasks", "lm_eval.models", "lm_eval.models.huggingface")}
    modules["lm_eval"].simple_evaluate = simple_evaluate
    modules["lm_eval.tasks"].TaskManager = TaskManager
    modules["lm_eval.models.huggingface"].HFLM = lambda **given: given
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_numbers_are_read_with_what_stands_behind_them(harness):
    model = language.model("llama")[0]
    scores = pomona.Tasks(["hellaswag"], tokenizer(eos_token="w2"), limit=10, shots=5)(model)
    first, strict, group = scores
    assert (first.task, first.metric, first.value, first.stderr) == ("tiny", "acc", 0.75, 0.13)
    assert (first.examples, first.shots, first.version, first.higher_is_better) == (10, 0, "1.0", True)
    assert (strict.metric, strict.filter, strict.stderr, strict.examples) == ("exact_match", "strict-match", None, None)
    assert (group.task, group.value) == ("both", 0.6)
    given, how = harness.calls[0]
    assert given["pretrained"] is model and "prefix_token_id" not in given
    assert how["tasks"] == ["hellaswag"] and how["limit"] == 10 and how["num_fewshot"] == 5


def test_the_caller_s_random_numbers_and_modes_go_on_as_if_nothing_had_been(harness):
    model = language.model("llama")[0].train()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    ours = tokenizer(bos_token="w1")
    pomona.Tasks(["arc_easy"], ours)(model)
    found = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert found == (random.random(), np.random.rand(), torch.rand(1)) and model.training
    assert harness.calls[0][0]["tokenizer"] is not ours


def test_the_config_says_what_begins_a_text_where_the_tokenizer_does_not(harness):
    model = language.model("gpt2")[0]
    pomona.Tasks(["arc_easy"], tokenizer())(model)
    assert harness.calls[0][0]["prefix_token_id"] == 1
    model.config.bos_token_id = model.config.eos_token_id = None
    with pytest.raises(InputError, match="set bos_token"):
        pomona.Tasks(["arc_easy"], tokenizer())(model)


def test_tasks_of_one_s_own_are_read_alone(harness, tmp_path):
    model = language.model("llama")[0]
    pomona.Tasks(["tiny"], tokenizer(bos_token="w1"), include=tmp_path)(model)
    assert harness.managers == [(str(tmp_path), False)]
    pomona.Tasks(["tiny", "arc_easy"], tokenizer(bos_token="w1"), include=tmp_path)(model)
    assert harness.managers[1:] == [(str(tmp_path), False), (str(tmp_path), True)]


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (["hellaswagg"], {}, "no task 'hellaswagg'; did you mean hellaswag"),
        ([], {}, "Name at least one task"),
        (["hellaswag"], {"include": "nowhere"}, "There is no folder nowhere"),
        (["hellaswag"], {"tokenizer": None}, "brought no tokenizer"),
    ],
)
def test_what_cannot_be_asked_is_refused_beforehand(names, given, said, harness):
    with pytest.raises(InputError, match=said):
        pomona.Tasks(names, **{"tokenizer": tokenizer(bos_token="w1")} | given).check()


def test_models_without_words_and_data_out_of_reach_are_refused_in_a_sentence(harness):
    tasks = pomona.Tasks(["hellaswag"], tokenizer(bos_token="w1"))
    with pytest.raises(InputError, match="this is a Linear"):
        tasks(nn.Linear(2, 2))
    harness.fails = ConnectionError("Couldn't reach the data")
    with pytest.raises(InputError, match=r"data of hellaswag cannot be read \(Couldn't reach the data\).*--include-path"):
        tasks(language.model("llama")[0])


@pytest.mark.skipif(INSTALLED, reason="it is there")
def test_without_the_harness_the_pip_line_is_told():
    with pytest.raises(InputError, match=r"pip install 'pomona\[harness\]'"):
        pomona.Tasks(["hellaswag"], tokenizer()).check()


@pytest.mark.skipif(not INSTALLED, reason="pip install lm-eval")
def test_the_harness_itself_picks_the_endings_that_are_likeliest_by_our_own_count(tmp_path):
    rows = [
        {"context": f"w{n} w{n + 1}", "choices": [f"w{n + 2}", f"w{(7 * n + 9) % 60}", "w50"], "answer": n % 3} for n in range(12)
    ]
    (tmp_path / "tiny.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tiny.yaml").write_text(
        f"task: tiny\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/tiny.jsonl}}}}\n"
        "output_type: multiple_choice\ntest_split: test\n"
        'doc_to_text: "{{context}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: answer\n'
        "metric_list: [{metric: acc}]\nmetadata: {version: 3.0}\n"
    )
    model, ours = language.model("llama")[0], tokenizer(bos_token="w58", eos_token="w59")
    (score,) = pomona.Tasks(["tiny"], ours, include=tmp_path)(model)
    right = 0
    for row in rows:
        ids = torch.tensor([ours(f"{row['context']} {choice}")["input_ids"] for choice in row["choices"]])
        told = ids.clone()
        told[:, :2] = -100
        with torch.no_grad():
            right += int(likelihoods(model, Batch(kwargs={"input_ids": ids}), told).argmax()) == row["answer"]
    assert (score.task, score.metric, score.value, score.examples, score.version) == ("tiny", "acc", right / 12, 12, "3.0")
    assert score.stderr is not None and score.stderr > 0
